"""A list of trials: what the settings beside a store say is used, and what makes no sense there is left out."""

from pathlib import Path

import pytest

from q2.search.trials.listing import Listing
from q2.search.trials.store import TrialStore
from tests.search.trials.stores import RUN, trial


@pytest.mark.parametrize(
    ("settings", "target", "fidelity", "pruning"),
    [
        ("[search]\ntarget = 'SQNR'\n[search.evaluation]\nfidelity = 'forward'", True, "forward", set()),
        ("[search]\ntarget = 'SQNR'\n[search.strategies.tpe]\nrungs = ['forward']", True, "", {"tpe"}),
        ("[search]\ntarget = 3\nevaluation = 3\nstrategies = 3", False, "", set()),
        ("[search]\ntarget = ['SQNR']\n[search.strategies]\ntpe = 3", False, "", set()),
        ("search = 3", False, "", set()),
        ("[search", False, "", set()),
    ],
)
def test_settings_beside_a_store(tmp_path: Path, settings: str, target: bool, fidelity: str, pruning: set[str]) -> None:
    (tmp_path / "effective.toml").write_text(settings, encoding="utf-8")
    TrialStore.open(tmp_path / "trials", RUN).add(trial(0, SQNR=9.0))
    found = Listing.of(TrialStore.read(tmp_path / "trials"))
    assert (found.target is not None, found.fidelity, found.pruning) == (target, fidelity, frozenset(pruning))
    assert len(found.rows()) == 1
