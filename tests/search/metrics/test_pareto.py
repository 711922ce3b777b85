"""Fronts and their area by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.search.metrics.pareto import hypervolume, pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=15)


@given(POINTS)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_a_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    found = pareto_front(np.array(points, float).reshape(-1, 2))
    for (a, b), on in zip(points, found, strict=True):
        assert on != any(c <= a and d <= b and (c, d) != (a, b) for c, d in points)


@given(POINTS)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_the_area_is_that_of_the_cells_that_points_dominate(points: list[tuple[int, int]]) -> None:
    cells = {(x, y) for x in range(5) for y in range(5) if any(a <= x and b <= y for a, b in points)}
    assert hypervolume(points, (5, 5)) == len(cells)


def test_a_front_in_three_dimensions_keeps_equal_points() -> None:
    points = [[1, 1, 1], [1, 1, 1], [0, 2, 2], [1, 1, 2]]
    assert pareto_front(points).tolist() == [True, True, True, False]
    with pytest.raises(ValueError, match=r"expected points \(N, K\)"):
        pareto_front([1.0, 2.0])
