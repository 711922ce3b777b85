"""What quantization did to the images: the judge's accuracy of both sets, and their difference with its interval."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from q2.denoisers.base import Samples
from q2.denoisers.judge import DigitsJudge

__all__ = ["Accuracy", "Comparison", "compare", "read"]

Z95 = 1.96


@dataclass(frozen=True)
class Accuracy:
    """Shares of images recognised as their class, and what is lost: full minus quantized, with a 95 % half-interval.

    The interval is that of paired differences: both sets come from the same noise.
    """

    full: float
    quantized: float
    loss: float
    interval: float

    @property
    def within_noise(self) -> bool:
        """Whether the interval of the loss holds zero."""
        return abs(self.loss) <= self.interval


@dataclass(frozen=True)
class Comparison:
    """Both sets of images, with what the judge reads in them, long (N,), and the accuracies, where there is a judge."""

    full: Samples
    quantized: Samples
    full_read: Tensor | None = None
    quantized_read: Tensor | None = None
    accuracy: Accuracy | None = None


def compare(full: Samples, quantized: Samples, judge: DigitsJudge | None) -> Comparison:
    """Compare two sets of images made from the same noise for the same classes."""
    if judge is None:
        return Comparison(full, quantized)
    reads = [read(judge, samples) for samples in (full, quantized)]
    right = [(seen == full.labels).double() for seen in reads]
    difference = right[0] - right[1]
    count = len(difference)
    interval = Z95 * float(difference.std()) / math.sqrt(count) if count > 1 else math.inf
    accuracy = Accuracy(float(right[0].mean()), float(right[1].mean()), float(difference.mean()), interval)
    return Comparison(full, quantized, reads[0], reads[1], accuracy)


def read(judge: DigitsJudge, samples: Samples) -> Tensor:
    """Return the class that the judge sees in every image, long (N,); -1 where it is NaN or infinite."""
    with torch.no_grad():
        logits = torch.cat([judge(images) for images in torch.split(samples.images, 256)])
    return logits.argmax(1).where(logits.isfinite().all(1), -1)
