"""What quantization did to the images: the judge's accuracy of both sets, and their difference with its interval."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from q2.denoisers.base import Samples
from q2.denoisers.judge import Judge

__all__ = ["Accuracy", "Comparison", "accuracies", "compare", "read"]

Z95 = 1.959964


@dataclass(frozen=True)
class Accuracy:
    """Shares of images recognised as their class, and what is lost: full minus quantized, with its 95 % interval.

    The interval, from `low` to `high`, is that of paired shares, since both sets come from the same noise.
    """

    full: float
    quantized: float
    loss: float
    low: float
    high: float

    @property
    def interval(self) -> float:
        """The distance from the loss to the farther bound."""
        return max(self.high - self.loss, self.loss - self.low)

    @property
    def within_noise(self) -> bool:
        """Whether the interval of the loss holds zero."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """Both sets of images, with what the judge reads in them, long (N,), and the accuracies, where there is a judge.

    `title` is what a class is called.
    """

    full: Samples
    quantized: Samples
    full_read: Tensor | None = None
    quantized_read: Tensor | None = None
    accuracy: Accuracy | None = None
    title: Callable[[int], str] = str


def compare(full: Samples, quantized: Samples, judge: Judge | None) -> Comparison:
    """Compare two sets of images made from the same noise for the same classes."""
    if judge is None:
        return Comparison(full, quantized)
    reads = [read(judge, samples) for samples in (full, quantized)]
    accuracy = accuracies(*(seen == full.labels for seen in reads))
    return Comparison(full, quantized, reads[0], reads[1], accuracy, judge.title)


def accuracies(full: Tensor, quantized: Tensor) -> Accuracy:
    """Return the accuracies of images that are recognised or not, bool (N,), and their difference with its interval.

    Bonett and Price's (2012): one image more is counted as lost, and one as gained. So a few images without any change
    leave a doubt; where fewer than about seven change, the interval covers more than 95 % of the time.

    >>> same = torch.ones(20, dtype=torch.bool)
    >>> found = accuracies(same, same)
    >>> found.loss, round(found.interval, 3), found.within_noise
    (0.0, 0.126, True)
    """
    count = len(full)
    lost, gained = int((full & ~quantized).sum()), int((quantized & ~full).sum())
    less, more = (lost + 1) / (count + 2), (gained + 1) / (count + 2)
    half = Z95 * math.sqrt((less + more - (less - more) ** 2) / (count + 2))
    low, high = max(less - more - half, -1.0), min(less - more + half, 1.0)
    return Accuracy(int(full.sum()) / count, int(quantized.sum()) / count, (lost - gained) / count, low, high)


def read(judge: Judge, samples: Samples) -> Tensor:
    """Return the class that the judge sees in every image, long (N,); -1 where it is NaN or infinite."""
    with torch.no_grad():
        logits = torch.cat([judge(images) for images in torch.split(samples.images, 256)])
    return logits.argmax(1).where(logits.isfinite().all(1), -1)
