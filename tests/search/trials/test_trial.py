"""Trials: named by what was asked, one text for equal ones, and joined in any order."""

import itertools
import math

import pytest

from q2.errors import TrialError
from q2.search.trials.trial import Trial, join

RECIPE = {"a.to_q": "kmeans-c-3", "a.to_k": "uaq-4", "conv#1": "none"}


def test_a_trial_is_named_by_recipe_fidelity_and_evaluation_seed_alone() -> None:
    trial = Trial(RECIPE, {"bops": 1.0}, number=3)
    assert trial.id == "420c91071d4e3100"
    assert Trial(dict(reversed(RECIPE.items())), strategy="random", seconds=2.0, state="failed").id == trial.id
    others = [Trial({**RECIPE, "a.to_k": "uaq-3"}), Trial(RECIPE, seed=1), Trial(RECIPE, fidelity="latent"), Trial({})]
    assert len({trial.id, *(other.id for other in others)}) == 5


def test_a_trial_reads_back_from_its_text() -> None:
    trial = Trial(
        RECIPE,
        {"FID-GT-1k": 0.1 + 0.2, "avg_bits": 4},
        {"FID-GT-1k": (0.1, 1e-300)},
        fidelity="few-step",
        seed=2**40,
        number=0,
        seconds=1.5,
        strategy="random",
        state="failed",
        error="two\nlines \ud800 \u2028",
    )
    text = trial.to_json()
    assert "\n" not in text
    assert text.isascii()
    assert Trial.from_json(text) == trial
    assert Trial.from_json(text).to_json() == text


def test_a_trial_is_called_by_its_number_or_else_its_name() -> None:
    assert Trial(RECIPE, number=0).label == "trial 0"
    assert Trial(RECIPE).label == "trial 420c9107"


def test_what_was_handed_over_may_change_afterwards() -> None:
    recipe, metrics = dict(RECIPE), {"bops": 1.0}
    trial = Trial(recipe, metrics)
    recipe.clear()
    metrics.clear()
    assert (trial.recipe, trial.metrics) == (RECIPE, {"bops": 1.0})


@pytest.mark.parametrize(
    ("metrics", "intervals", "message"),
    [
        ({"FID": math.nan}, {}, "FID is nan"),
        ({"FID": -math.inf}, {}, "FID is -inf"),
        ({"FID": 1.0}, {"FID": (0.0, math.inf)}, "FID (high) is inf"),
    ],
)
def test_a_number_that_no_target_could_rank_is_refused(
    metrics: dict[str, float], intervals: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(TrialError) as error:
        Trial(RECIPE, metrics, intervals)
    assert str(error.value) == f"trial 420c91071d4e3100: {message}, expected a finite number"


def test_records_of_a_trial_join_alike_in_every_order() -> None:
    records = [
        Trial(RECIPE, {"FID": 9.0, "bops": 1.0}, {"FID": (8.0, 10.0)}, seconds=3.0),
        Trial(RECIPE, {"FID": 9.5, "kid": 0.5}, {"FID": (9.0, 10.0)}, strategy="random"),
        Trial(RECIPE, {"clip": 0.3}),
        Trial(RECIPE, {"half": 1.0}, state="failed", error="out of memory"),
    ]
    joined = [join(order) for order in itertools.permutations(records)]
    assert len({trial.to_json() for trial in joined}) == 1
    assert joined[0].metrics.keys() == {"FID", "bops", "kid", "clip"}
    assert (joined[0].state, joined[0].error) == ("complete", "")
    believed = next(record for record in records if record.metrics.get("FID") == joined[0].metrics["FID"])
    assert joined[0].intervals["FID"] == believed.intervals["FID"]
    assert join(records[:1]) == records[0]
    assert join(records[3:]).error == "out of memory"
