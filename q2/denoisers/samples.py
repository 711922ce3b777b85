"""Images that a denoiser made, and the noise that each came from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

import torch
from torch import Tensor

__all__ = ["Samples", "batches", "image_generator", "image_seed"]


@dataclass(frozen=True)
class Samples:
    """Generated images, float (N, C, H, W) in [0, 1] on the CPU, and the class or prompt of each, long (N,).

    `latents` are what the autoencoder decoded, or the images themselves where there is none, float (N, C, h, w).
    Of N videos of F frames the images are all frames in turn, (N·F, C, H, W), and the latents (N, C, f, h, w).
    """

    images: Tensor
    labels: Tensor
    latents: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def frames(self) -> int:
        """How many images there are of each label: 1, or the frames of a video.

        >>> Samples(torch.zeros(6, 3, 8, 8), torch.tensor([4, 7])).frames
        3
        """
        return len(self.images) // len(self.labels) if len(self.labels) else 1

    @property
    def image_labels(self) -> Tensor:
        """The class or prompt of every image, a video's for each of its frames.

        >>> Samples(torch.zeros(4, 3, 8, 8), torch.tensor([4, 7])).image_labels
        tensor([4, 4, 7, 7])
        """
        return self.labels.repeat_interleave(self.frames)


def image_seed(seed: int, index: int) -> int:
    """Return the seed of image `index`, of 63 bits."""
    digest = sha256(f"{seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def image_generator(seed: int, index: int) -> torch.Generator:
    """Return the CPU generator of image `index`: the same noise on every device and in every batch."""
    return torch.Generator().manual_seed(image_seed(seed, index))


def batches(first: int, count: int, batch: int) -> Iterator[range]:
    """Yield the indices of `count` images from `first` on, in batches.

    >>> [list(chosen) for chosen in batches(5, 3, 2)]
    [[5, 6], [7]]
    """
    end = first + count
    return (range(start, min(start + batch, end)) for start in range(first, end, batch))
