"""A plugin for another version of q2 is refused in a line that says what to do; deprecations are warnings."""

import re
from pathlib import Path

import pytest

from q2.deprecation import Q2DeprecationWarning
from q2.errors import PluginError
from q2.passes.kinds import PASSES
from q2.plugins import Plugins
from q2.plugins.api import API, check_api
from q2.plugins.catalogue import Offer
from q2.search.kinds import METRICS
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.trials.trial import Trial
from q2.testing.problems import tiny_problem, trial_of
from q2.version import version
from tests.plugins.test_manager import GOOD, install, local

HELLO = GOOD.replace("NAME", "hello")
LATER = "from q2.passes import SomethingOfVersionTwo\n\nq2_api = '2'\n\ndef q2_after_everything():\n    pass\n"
UPGRADE = (
    r"is written for version 2 of q2's plugin interface, and q2 [\d.]+ has 1\.1; upgrade q2: pip install -U q2-diff"
)


@pytest.mark.parametrize("line", ["", "q2_api = '1'\n", "q2_api: str = '1.0'\n"])
def test_a_plugin_of_this_version_or_of_none_is_taken(tmp_path: Path, line: str) -> None:
    assert "hello" in local(tmp_path, line + HELLO).of(PASSES)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ("'2'", "is written for version 2 of .*; upgrade q2: pip install -U q2-diffusion$"),
        ("'1.9'", "is written for version 1.9 of .*; upgrade q2: pip install -U q2-diffusion$"),
        ("'0.4'", "is written for version 0.4 of .*; upgrade the plugin$"),
        ("1", r"q2_api is 1, expected a version as text, such as '1'$"),
        ("'one'", r"q2_api is 'one', expected a version as text, such as '1'$"),
        ("str(2)", "is written for version 2 of .*; upgrade q2"),  # worked out as it is imported
    ],
)
def test_another_version_is_one_line_that_says_what_to_do(tmp_path: Path, declared: str, message: str) -> None:
    with pytest.raises(PluginError, match=rf"^plugins\.modules: 'mine\.py' is broken: {message}") as error:
        local(tmp_path, f"q2_api = {declared}\n{HELLO}")
    assert "\n" not in str(error.value)


def test_a_plugin_of_version_two_is_refused_for_its_version_and_not_for_what_q2_lacks(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=UPGRADE):
        local(tmp_path, LATER)


def test_an_installed_plugin_of_version_two_stops_only_who_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "q2-later", LATER, monkeypatch)
    plugins = Plugins()
    (info,) = [info for info in plugins.infos if info.name == "q2-later"]
    assert info.error is not None
    assert re.match(UPGRADE, info.error)
    assert plugins.of(PASSES).load("size").name == "size"
    with pytest.raises(PluginError, match=f"no pass named 'theirs' .*the plugin 'q2-later' is broken: {UPGRADE}"):
        plugins.of(PASSES).load("theirs")


def test_this_version_accepts_itself() -> None:
    check_api(API)
    check_api(API.partition(".")[0])


class Old(ImageMetric):
    name = "old"
    better = "lower"

    def rows(self, chunk: Chunk) -> Array:
        raise NotImplementedError

    def value(self, rows: Array, other: Array | None) -> float:  # type: ignore[override]
        return 0.0


def test_what_is_deprecated_says_until_when_and_what_to_write() -> None:
    line = "value of the metric 'old' without labels is deprecated and will be refused by q2 0.3.0: give it a third"
    with pytest.warns(Q2DeprecationWarning, match=line):
        METRICS.check(Offer("old", "mine.py", Old), Old)


def test_a_hook_that_still_says_worth_is_warned_at_its_own_line_and_told_the_value(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    text = "from q2.plugins import hookimpl\n\n\n@hookimpl\ndef q2_after_trial(trial, worth, folder):\n"
    mine.write_text(text + "    (folder / 'said').write_text(str(worth))\n", encoding="utf-8")
    line = "the argument 'worth' of q2_after_trial is deprecated and will be refused by q2 0.3.0: call it 'value'"
    with pytest.warns(Q2DeprecationWarning, match=line) as said:
        plugins = Plugins([str(mine)], entry_points=False)
    assert [(warning.filename, warning.lineno) for warning in said] == [(str(mine), 4)]
    assert plugins.after_trial(Trial({"a": "uaq-4"}), -4.5, tmp_path) == []
    assert (tmp_path / "said").read_text(encoding="utf-8") == "-4.5"


def test_a_strategy_that_still_asks_for_worth_is_warned_and_gets_values() -> None:
    problem = tiny_problem()
    trials = [trial_of(problem, problem.space.draw(0, 0))]
    line = "Problem.worth is deprecated and will be refused by q2 0.3.0: call it 'values'"
    with pytest.warns(Q2DeprecationWarning, match=line) as said:
        assert problem.worth(trials) == problem.values(trials)
    assert said[0].filename == __file__


def test_nothing_is_deprecated_beyond_its_time() -> None:
    own = tuple(map(int, version().split(".")[:3]))
    source = Path(__file__).parents[2] / "q2"
    removals = [
        tuple(map(int, found.split(".")))
        for file in source.rglob("*.py")
        if file.name != "deprecation.py"
        for found in re.findall(r'removed="([\d.]+)"', file.read_text(encoding="utf-8"))
    ]
    assert removals
    assert all(removal > own for removal in removals)
