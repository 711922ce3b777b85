"""Metrics of single passes of the denoiser: the error of its outputs, and the time they take."""

import math

import numpy as np

from q2.denoisers.pairs import LIMIT, sqnr_by_image
from q2.search.metrics.base import ForwardMetric, Outputs
from q2.search.metrics.intervals import Estimate, mean_estimate

__all__ = ["Latency", "Sqnr"]


class Sqnr(ForwardMetric):
    """Signal to quantization noise of the denoiser's outputs, for full precision's own inputs at some timesteps."""

    name = "SQNR"
    better = "higher"
    unit = "dB"
    bounds = (-LIMIT, LIMIT)

    def value(self, outputs: Outputs) -> Estimate:
        """Return the mean over the images on whose way the inputs lay; an image has all its steps, which are fixed."""
        _, first = np.unique(outputs.images, return_index=True)
        means = sqnr_by_image(outputs.made, outputs.full, outputs.images)
        return mean_estimate(means, outputs.labels[first])


class Latency(ForwardMetric):
    """Time of one pass of the denoiser: the median over calls, as simulated or packed layers run here."""

    name = "latency"
    better = "lower"
    unit = "seconds"
    bounds = (0.0, math.inf)

    def value(self, outputs: Outputs) -> Estimate:
        """Return the median over calls, with the quartiles of a call's time as bounds: no confidence interval."""
        low, middle, high = np.quantile(outputs.seconds, [0.25, 0.5, 0.75])
        return Estimate(float(middle), float(low), float(high))
