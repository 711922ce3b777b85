"""A target taken apart: what costs say exactly, and what is left."""

import numpy as np
import pytest

from q2.search.evaluation.costs import Costs
from q2.search.objective.split import Parts
from q2.search.objective.target import Target
from q2.search.space import Space

EMPTY = np.zeros((0, 0))
COSTS = Costs(Space(()), {"avg_bits": EMPTY, "bops": EMPTY}, {"avg_bits": 0.0, "bops": 0.0})
NAMES = ("SQNR", "fid", "avg_bits", "bops")


def parts(text: str) -> Parts:
    return Parts.of(Target.parse(text, NAMES), COSTS)


@pytest.mark.parametrize(
    ("text", "linear"),
    [
        ("SQNR - 4*avg_bits", {"avg_bits": -4.0}),
        ("-1*fid - avg_bits*150 - avg_bits", {"avg_bits": -151.0}),
        ("-(fid + avg_bits)/2 + 3*(SQNR - bops*2)", {"avg_bits": -0.5, "bops": -6.0}),
        ("SQNR - avg_bits**2", {}),
        ("SQNR*avg_bits - 1/bops", {}),
        ("SQNR - avg_bits/bops - (1 + 2)*bops", {"bops": -3.0}),
        ("3*bops - avg_bits", {}),
    ],
)
def test_the_factors_of_costs_are_read_from_sums_and_constant_products(text: str, linear: dict[str, float]) -> None:
    assert parts(text).linear == linear


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("SQNR - 4*avg_bits - bops**2 + 7", "SQNR + 0*bops"),
        ("SQNR*avg_bits - bops", "SQNR*avg_bits"),
        ("2*(fid - avg_bits)", "2*fid"),
        ("3*bops - avg_bits", "3*bops - avg_bits"),  # all is known: all is learnt
    ],
)
def test_what_is_left_is_the_value_without_the_known_terms(text: str, left: str) -> None:
    rng = np.random.default_rng(0)
    trials = [dict(zip(NAMES, rng.uniform(1, 5, 4).tolist(), strict=True)) for _ in range(5)]
    found = parts(text)
    unknown = found.unknown(trials, Target.parse(text, NAMES).values(trials).tolist())
    np.testing.assert_allclose(unknown, Target.parse(left, NAMES).values(trials))
    columns = {name: np.array([trial[name] for trial in trials]) for name in NAMES}
    np.testing.assert_allclose(unknown + found.exact(columns), Target.parse(text, NAMES).values(trials))
