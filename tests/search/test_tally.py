"""A search can be followed: a line a trial, with the best so far, what failed, and the time that is left."""

from q2.search.metrics.paired import LatentSqnr
from q2.search.tally import Tally
from q2.search.trials.trial import Trial
from tests.search.test_report import problem


def trial(number: int, quality: float, bits: float) -> Trial:
    return Trial({"a": f"uaq-{number + 1}"}, {"latent-SQNR": quality, "avg_bits": bits}, number=number)


def test_every_trial_has_a_line_with_the_best_so_far_and_the_time_left() -> None:
    seconds = iter(range(0, 1000, 10))
    tally = Tally(problem(), LatentSqnr, lambda: float(next(seconds)))
    assert tally.add(trial(0, 9.0, 3.0)) == ("trial 1/9  latent-SQNR 9 dB  3.000 bits  target 3  best 3 (#0)  eta 1:20")
    assert tally.add(trial(1, 8.0, 3.0)).endswith("target 2  best 3 (#0)  eta 1:10")
    failed = Trial({"a": "uaq-8"}, state="failed", error="out of memory", number=2)
    assert tally.add(failed) == "trial 3/9  failed: out of memory  best 3 (#0)  failed 1  eta 1:00"


def test_what_was_known_before_says_nothing_of_the_time_and_cheaper_trials_do_not_count() -> None:
    tally = Tally(problem(), LatentSqnr, lambda: 0.0)
    assert tally.add(trial(0, 9.0, 3.0), new=False) == (
        "trial 1/9  latent-SQNR 9 dB  3.000 bits  target 3  best 3 (#0)"
    )
    cheap = Trial({"a": "uaq-8"}, {"latent-SQNR": 99.0, "avg_bits": 1.0}, fidelity="few-step", number=7)
    assert tally.add(cheap) == "at few-step  latent-SQNR 99 dB  1.000 bits  best 3 (#0)"
    assert (tally.done, tally.failed) == (1, 0)


def test_a_trial_beyond_the_constraints_is_never_the_best() -> None:
    tally = Tally(problem(bound="avg_bits <= 2.5"), LatentSqnr, lambda: 0.0)
    assert "best" not in tally.add(trial(0, 90.0, 3.0))
    assert "best 1 (#1)" in tally.add(trial(1, 6.0, 2.5))
