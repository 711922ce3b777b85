"""Metrics of single passes of the denoiser: the error of its outputs, and the time they take."""

import numpy as np

from q2.search.metrics.base import ForwardMetric, Outputs
from q2.search.metrics.intervals import Estimate, mean_estimate
from q2.search.metrics.pairs import sqnr

__all__ = ["Latency", "Sqnr"]


class Sqnr(ForwardMetric):
    """Signal to quantization noise of the denoiser's outputs, for full precision's own inputs at some timesteps."""

    name = "SQNR"
    better = "higher"
    unit = "dB"

    def value(self, outputs: Outputs) -> Estimate:
        """Return the mean over the inputs."""
        return mean_estimate(sqnr(outputs.made, outputs.full))


class Latency(ForwardMetric):
    """Time of one pass of the denoiser: the median over calls, as simulated or packed layers run here."""

    name = "latency"
    better = "lower"
    unit = "seconds"

    def value(self, outputs: Outputs) -> Estimate:
        """Return the median, with the quartiles as its bounds."""
        low, middle, high = np.quantile(outputs.seconds, [0.25, 0.5, 0.75])
        return Estimate(float(middle), float(low), float(high))
