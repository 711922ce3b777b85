"""How two recipes differ by a metric, when both made their images from the same noise: paired, with an interval."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from q2.search.metrics.base import Array, ForwardMetric, ImageMetric, Metric, Outputs
from q2.search.metrics.contract import takes_labels, value_of
from q2.search.metrics.intervals import Estimate, Labels, mean_estimate, paired_estimate

__all__ = ["FEW", "Verdict", "image_difference", "jackknife", "output_difference", "verdict"]

Verdict = Literal["better", "worse", "within noise", "same"]
FEW = 30
"""With fewer images than these a difference that is within noise says little."""
_GROUPS = 20


def verdict(metric: type[Metric], difference: Estimate) -> Verdict:
    """Return what a difference to another recipe says, by the direction in which a metric is good.

    >>> from q2.search.metrics.paired import Psnr
    >>> verdict(Psnr, Estimate(-1.0, -1.5, -0.5)), verdict(Psnr, Estimate(0.2, -0.5, 0.9))
    ('worse', 'within noise')
    """
    if difference.value == difference.low == difference.high == 0:
        return "same"
    if difference.low <= 0 <= difference.high:
        return "within noise"
    return "better" if difference.value * metric.sign() > 0 else "worse"


def image_difference(metric: ImageMetric, rows: Array, base: Array, other: Array | None, labels: Labels) -> Estimate:
    """Return by how much a metric of rows (N, ...) is above that of `base`, another recipe's rows of the same images.

    Means have Student's interval of the paired differences; shares Bonett and Price's (2012); distances the delta
    method's, and whatever a plugin computes a grouped jackknife. `other` are the rows that the metric is measured
    against, `labels` (N,) the images' classes.
    """
    if type(metric).value is ImageMetric.value:
        return mean_estimate(rows - base, labels)
    if rows.ndim == 1 and set(np.unique([*rows, *base])) <= {0.0, 1.0}:
        return _shares(rows, base)

    made, there = (
        metric.value(each, other, labels) if takes_labels(metric) else metric.value(each, other)
        for each in (rows, base)
    )
    if isinstance(made, Estimate) and isinstance(there, Estimate):
        found = paired_estimate(made, there, labels)
        if found is not None:
            return found

    def value(kept: NDArray[np.bool_]) -> float:
        beside = other[kept] if other is not None and metric.against == "full" else other
        one, two = (value_of(metric, each[kept], beside, labels[kept]).value for each in (rows, base))
        return one - two

    return jackknife(value, labels)


def output_difference(metric: ForwardMetric, outputs: Outputs, base: Outputs) -> Estimate:
    """Return by how much a metric of outputs is above that of `base`, another recipe's for the same inputs."""
    numbers, first = np.unique(outputs.images, return_index=True)

    def value(kept: NDArray[np.bool_]) -> float:
        inside = np.isin(outputs.images, numbers[kept])
        one, two = (_value(metric.value(_some(each, inside))) for each in (outputs, base))
        return one - two

    return jackknife(value, outputs.labels[first])


def jackknife(value: Callable[[NDArray[np.bool_]], float], labels: Labels) -> Estimate:
    """Return a statistic of all samples with its interval, from its values without one group of samples each.

    `value` takes which of the samples (N,) are kept. Groups are alike in their classes, `labels` (N,), so that the
    spread is that within classes (delete-a-group jackknife: Kott 2001). Two samples or fewer say nothing: the bounds
    are infinite.

    >>> numbers = np.random.default_rng(0).permutation(np.arange(40.0))
    >>> found = jackknife(lambda kept: float(numbers[kept].mean()), np.zeros(40, int))
    >>> round(found.value, 1), 3 < found.high - found.value < 5
    (19.5, True)
    """
    from scipy.stats import t

    count = len(labels)
    groups = min(_GROUPS, count)
    whole = value(np.ones(count, bool))
    if groups < 3:
        return Estimate(whole, -np.inf, np.inf)
    place = np.empty(count, np.intp)
    place[np.argsort(labels, kind="stable")] = np.arange(count) % groups
    found = np.array([value(place != group) for group in range(groups)])
    error = float(np.sqrt((groups - 1) / groups * ((found - found.mean()) ** 2).sum()))
    half = float(t.ppf(0.975, groups - 1)) * error
    return Estimate(whole, whole - half, whole + half)


def _shares(rows: Array, base: Array) -> Estimate:
    import torch

    from q2.denoisers.comparison import accuracies

    found = accuracies(torch.from_numpy(base > 0), torch.from_numpy(rows > 0))
    return Estimate(-found.loss, -found.high, -found.low)


def _some(outputs: Outputs, inside: NDArray[np.bool_]) -> Outputs:
    return Outputs(
        outputs.made[inside],
        outputs.full[inside],
        outputs.seconds,
        outputs.images[inside],
        outputs.labels[inside],
    )


def _value(found: Estimate | float) -> float:
    return found.value if isinstance(found, Estimate) else float(found)
