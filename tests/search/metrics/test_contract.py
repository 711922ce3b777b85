"""A metric that breaks its contract is one line that names it, its plugin and the hook."""

from typing import Any

import numpy as np
import pytest
import torch

from q2.denoisers import Samples
from q2.errors import PluginError, TrialError
from q2.plugins.catalogue import Offer
from q2.search.kinds import METRICS
from q2.search.metrics.base import Array, Chunk, ForwardMetric, FreeMetric, ImageMetric, Metric, Outputs
from q2.search.metrics.contract import check_forward, check_images, estimate_of, rows_of
from q2.search.metrics.intervals import Estimate, Labels


class Good(ImageMetric):
    name = "sharpness"
    better = "higher"
    owner = "mine.py"
    returned: Any = np.ones(4)
    made: Any = 1.5

    def __init__(self) -> None:
        """Need nothing."""

    def rows(self, chunk: Chunk) -> Array:
        return self.returned  # type: ignore[no-any-return]

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate | float:
        if isinstance(self.made, Exception):
            raise self.made
        return self.made  # type: ignore[no-any-return]


class Forward(ForwardMetric):
    name = "drift"
    better = "lower"
    owner = "mine.py"
    cost = "forward"

    def __init__(self, made: Any) -> None:
        self.made = made

    def value(self, outputs: Outputs) -> Estimate | float:
        return self.made  # type: ignore[no-any-return]


class Undirected(ImageMetric):
    name = "sharpness"

    def rows(self, chunk: Chunk) -> Array:
        return np.ones(4)


def of(**parts: object) -> type[Metric]:
    return type("Mine", (Good,), parts)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (Undirected, "is the class Undirected, whose better is None, expected 'higher' or 'lower'"),
        (of(better="up"), "is the class Mine, whose better is 'up', expected 'higher' or 'lower'"),
        (of(cost="dear"), "is the class Mine, whose cost is 'dear', expected 'free' or 'forward' or 'images'"),
        (of(cost="forward"), "is the class Mine, whose cost is 'forward', and no ForwardMetric"),
        (of(name="Sharpness"), "is the class Mine, whose own name is 'Sharpness'"),
        (of(against="reel"), "is the class Mine, whose against is 'reel', expected '' or 'full' or 'real'"),
        (type("Mine", (ImageMetric,), {"name": "sharpness", "better": "lower"}), "is the class Mine, which lacks rows"),
        (type("Mine", (Metric,), {"name": "sharpness", "better": "lower"}), "is the class Mine, whose cost is None"),
        (dict, "is the class dict, expected a subclass of q2.search.metrics.Metric"),
        (len, "is of type builtin_function_or_method, expected a subclass of q2.search.metrics.Metric"),
    ],
)
def test_a_class_that_is_no_metric_is_one_line(kind: Any, fault: str) -> None:
    with pytest.raises(PluginError) as error:
        METRICS.check(Offer("sharpness", "mine.py", kind), kind)
    assert str(error.value).startswith(f"mine.py: q2_metrics: 'sharpness' {fault}")


def chunk() -> Chunk:
    samples = Samples(torch.rand(4, 1, 4, 4), torch.zeros(4))
    return Chunk(samples, samples)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (np.ones(1), "rows returned the shape (1,) for 4 images, expected a row for each"),
        (np.float64(1), "rows returned float64, expected an array of numbers with a row for each image"),
        (np.array(1.0), "rows returned the shape () for 4 images, expected a row for each"),
        ([1.0] * 4, "rows returned list, expected an array"),
        (np.array(["a"] * 4), "rows returned an array of <U1, expected an array"),
    ],
)
def test_rows_that_are_no_row_for_each_image_are_refused_at_once(rows: object, fault: str) -> None:
    metric = Good()
    metric.returned = rows
    with pytest.raises(TrialError) as error:
        check_images([metric], chunk())
    assert str(error.value).startswith(f"metric 'sharpness' of mine.py: {fault}")


def test_rows_that_are_not_finite_name_the_image_in_a_trial() -> None:
    metric = Good()
    metric.returned = np.array([0.0, np.inf, np.nan, 1.0])
    check_images([metric], chunk())  # full precision against itself may well be infinite
    with pytest.raises(TrialError, match=r"^rows of 2 of 4 images are not finite \(first: image 9\)$"):
        rows_of(metric, chunk(), 8)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "NoneType"),
        ("1.5", "str"),
        (True, "bool"),
        (torch.tensor(1.5), "Tensor"),
        (np.array(1.5), "ndarray"),
        ((1.0, 0.5, 1.5), "tuple"),
        (Estimate(1.0, None, 2.0), "an Estimate of NoneType, float"),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_is_no_number_is_refused_at_once(value: Any, what: str) -> None:
    metric, line = Good(), f": value returned {what}, expected an Estimate or a number"
    metric.made = value
    with pytest.raises(TrialError) as error:
        check_images([metric], chunk())
    assert str(error.value) == f"metric 'sharpness' of mine.py{line}"
    with pytest.raises(TrialError) as error:
        check_forward([Forward(value)], Outputs(np.ones(1), np.ones(1), np.ones(1), np.zeros(1, int), np.zeros(1, int)))
    assert str(error.value) == f"metric 'drift' of mine.py{line}"


@pytest.mark.parametrize("value", [2, 1.5, np.float32(1.5), np.int64(3), Estimate(1.0, 0.5, 2.0)])
def test_a_number_is_an_estimate_without_interval(value: Any) -> None:
    found = estimate_of(value)
    assert (
        found == value if isinstance(value, Estimate) else found == Estimate(float(value), float(value), float(value))
    )
    assert all(type(part) is float for part in (found.value, found.low, found.high))


@pytest.mark.parametrize("error", [ZeroDivisionError(), ValueError("ten samples or more")])
def test_a_value_that_needs_more_images_is_not_refused(error: Exception) -> None:
    metric = Good()
    metric.made = error
    check_images([metric], chunk())


def test_a_free_metric_needs_no_method() -> None:
    tax = type("Tax", (FreeMetric,), {"name": "tax", "better": "lower"})
    METRICS.check(Offer("tax", "mine.py", tax), tax)
