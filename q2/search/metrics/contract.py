"""A metric's contract: what its class must say, and what `rows` and `value` must return. Every breach is one line."""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from numbers import Real

import numpy as np

from q2.errors import Q2Error, TrialError
from q2.plugins.catalogue import one_line
from q2.search.metrics.base import (
    Array,
    Chunk,
    ForwardMetric,
    ImageMetric,
    Outputs,
)
from q2.search.metrics.finite import NotFiniteError, check_finite
from q2.search.metrics.intervals import Estimate, Labels

__all__ = ["check_forward", "check_images", "estimate_of", "named_metric", "rows_of", "takes_labels", "value_of"]


@contextmanager
def named_metric(name: str, owner: str = "q2") -> Iterator[None]:
    """Put a metric's name, and the plugin that offers it, in front of what goes wrong in it: `TrialError`."""
    of = "" if owner == "q2" else f" of {owner}"
    try:
        yield
    except Exception as error:
        kind = NotFiniteError if isinstance(error, NotFiniteError) else TrialError
        text = str(error) if isinstance(error, Q2Error) else one_line(error)
        raise kind(f"metric {name!r}{of}: {text}") from error


def rows_of(metric: ImageMetric, chunk: Chunk, first: int = 0, *, finite: bool = True) -> Array:
    """Return the rows (N, ...) of a chunk whose first image has number `first`.

    Videos have one row each, or one for each frame. Raises `TrialError` for other shapes, and for no array of numbers.
    """
    rows: object = metric.rows(chunk)
    count = len(chunk.made.images)
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "biuf":
        what = f"an array of {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise TrialError(f"rows returned {what}, expected an array of numbers with a row for each image")
    if not rows.shape or len(rows) not in (count, len(chunk.made.labels)):
        raise TrialError(f"rows returned the shape {rows.shape} for {count} images, expected a row for each")
    if finite:
        check_finite(rows, "rows", "image", first)
    return rows


def takes_labels(metric: ImageMetric) -> bool:
    """Return whether a metric's `value` takes the images' labels, which a plugin's may leave out."""
    return len(inspect.signature(metric.value).parameters) > len(("rows", "other"))


def value_of(metric: ImageMetric, rows: Array, other: Array | None, labels: Labels) -> Estimate:
    """Return a metric's value of all rows (N, ...), within its bounds; `labels` (N,) are passed if `value` takes them.

    Labels of videos are repeated if there is a row for each frame.
    """
    if len(labels) and len(rows) > len(labels):
        labels = np.repeat(labels, len(rows) // len(labels))
    value = metric.value(rows, other, labels) if takes_labels(metric) else metric.value(rows, other)
    return estimate_of(value, metric.bounds)


def estimate_of(value: object, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate:
    """Return what a metric's `value` gave as an estimate within `bounds`: a number has no interval.

    A single sample says nothing of the spread: without bounds the estimate has no interval then. Raises `TrialError`.

    >>> estimate_of(2)
    Estimate(value=2.0, low=2.0, high=2.0)
    >>> estimate_of(float("nan"))
    Traceback (most recent call last):
    q2.search.metrics.finite.NotFiniteError: value is nan, expected a finite number
    """
    found = _estimate(value)
    for part in ("value", "low", "high"):
        number = getattr(found, part)
        if math.isnan(number) or (part == "value" and math.isinf(number)):
            raise NotFiniteError(f"{part} is {number}, expected a finite number")
    found = found.within(*bounds)
    if math.isinf(found.low) or math.isinf(found.high):
        return Estimate(found.value, found.value, found.value)
    return found


def _estimate(value: object) -> Estimate:
    bounds = (value.value, value.low, value.high) if isinstance(value, Estimate) else (value,) * 3
    if not all(isinstance(each, Real) and not isinstance(each, bool | np.bool_) for each in bounds):
        kinds = sorted({type(each).__name__ for each in bounds})
        what = f"an Estimate of {', '.join(kinds)}" if isinstance(value, Estimate) else kinds[0]
        raise TrialError(f"value returned {what}, expected an Estimate or a number")
    return Estimate(*(float(each) for each in bounds))  # type: ignore[arg-type]


def check_images(metrics: Sequence[ImageMetric], chunk: Chunk) -> None:
    """Try metrics on full precision's first images. Raises `TrialError`: one line with metric and plugin.

    Checked are the shape of `rows` and the type of `value`. That `value` raises is no fault here: so few images can be
    too few for it.
    """
    for metric in metrics:
        with named_metric(metric.name, metric.owner):
            rows = rows_of(metric, chunk, finite=False)  # a ratio to no error at all may be infinite
            labels = np.asarray(chunk.made.labels)
            _try(partial(value_of, metric, rows, rows if metric.against else None, labels))


def check_forward(metrics: Sequence[ForwardMetric], outputs: Outputs) -> None:
    """Try metrics on full precision's outputs, as `check_images` does."""
    for metric in metrics:
        with named_metric(metric.name, metric.owner):
            _try(partial(metric.value, outputs))


def _try(value: Callable[[], object]) -> None:
    with suppress(ArithmeticError, ValueError):
        _estimate(value())
