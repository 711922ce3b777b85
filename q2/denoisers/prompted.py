"""What text-to-image families share: a few prompts, and embeddings in their place where there is no text encoder."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from q2.denoisers.family import Family

__all__ = ["Prompted"]


class Prompted(Family):
    """A family that draws what a prompt says. A subclass says in `embeddings` what its pipeline takes instead."""

    prompts: ClassVar[Sequence[str]] = (
        "a red fox asleep in fresh snow, soft morning light",
        "a bowl of ramen on a wooden table, steam rising",
        "an old lighthouse in a storm, waves crashing, oil painting",
        "a street market in Marrakesh, colourful spices",
        "portrait of an astronaut with a sunflower",
        "a steam train crossing a stone viaduct in autumn",
        "a glass chess set on a marble table, close-up",
        "a watercolour of a hummingbird beside a hibiscus",
        "a cosy bookshop on a rainy evening",
        "two children flying a kite on a wide beach",
    )
    extent: ClassVar[int] = 0
    """Side of the images in pixels; 0 leaves it to the pipeline."""

    def classes(self) -> int:
        """Return the number of prompts."""
        return len(self.prompts)

    def conditions(self, images: range) -> Mapping[str, Any]:
        """Return the prompt of every image, or random embeddings in its place, and the images' side."""
        side = 8 * self.side if self.checkpoint is None else self.extent
        size = {"height": side, "width": side} if side else {}
        if self.checkpoint is not None:
            return {"prompt": [self.prompts[i % self.classes()] for i in images], **size}
        return {**self.embeddings(images), **size}

    @abstractmethod
    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return the pipeline's arguments in the place of prompts; the empty prompt's embeddings are zeros."""

    def drawn(self, images: range, *shape: int) -> Tensor:
        """Return normal numbers (N, *shape), the same for the same prompt."""
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(i % self.classes())) for i in images]
        return torch.stack(rows).to(self.device, self.dtype)
