"""What is not finite fails: images, latents, outputs and rows are checked before a metric can hide NaN or infinity."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from q2.denoisers import Samples
from q2.errors import TrialError

__all__ = ["NotFiniteError", "check_finite", "check_samples"]


class NotFiniteError(TrialError):
    """Something that holds NaN or infinity: which, and of how many images or inputs."""


def check_finite(values: Tensor | NDArray[np.generic], what: str, of: str, first: int = 0) -> None:
    """Raise `NotFiniteError` if some of N `values` (N, ...) hold NaN or infinity; they are numbered from `first` on.

    >>> check_finite(torch.tensor([[0.0], [torch.inf], [torch.nan]]), "latents", "image", first=4)
    Traceback (most recent call last):
    q2.search.metrics.finite.NotFiniteError: latents of 2 of 3 images are not finite (first: image 5)
    """
    good = values.isfinite() if isinstance(values, Tensor) else torch.from_numpy(np.isfinite(values))
    bad = (~good.reshape(len(values), -1).all(1)).nonzero().flatten().tolist() if good.numel() else []
    if bad:
        where = f"{len(bad)} of {len(values)} {of}s are not finite (first: {of} {first + bad[0]})"
        raise NotFiniteError(f"{what} of {where}")


def check_samples(samples: Samples, first: int = 0) -> None:
    """Raise `NotFiniteError` for latents or images that are not finite; image 0 of the samples has number `first`."""
    check_finite(samples.latents, "latents", "image", first)
    check_finite(samples.images, "pixels", "image", first)
