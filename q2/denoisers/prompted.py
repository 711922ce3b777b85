"""What text-to-image families share: a few prompts, and embeddings in their place where there is no text encoder."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from q2.denoisers.family import Family
from q2.denoisers.prompts import PROMPTS, Ask
from q2.errors import ConfigError

__all__ = ["Prompted"]


class Prompted(Family):
    """A family that draws what a prompt says. A subclass says in `embeddings` what its pipeline takes instead."""

    prompts: Sequence[str] = PROMPTS
    asked: ClassVar[Mapping[str, Any]] = {}

    def classes(self) -> int:
        """Return the number of prompts."""
        return len(self.prompts)

    def check(self, ask: Ask) -> None:
        """Raise `ConfigError` for prompts that nothing can read, and for class ids where the prompts are no classes."""
        if ask.prompts and not self.reads:
            raise ConfigError(f"{self.name} has no text encoder here and takes no prompt; give a checkpoint with one")
        super().check(ask)

    def check_classes(self, ask: Ask) -> None:
        """Raise `ConfigError` for class ids where the prompts are no classes."""
        if ask.classes and self.judge() is None:
            raise ConfigError(f"{self.name} draws what a prompt says, and has no classes")
        super().check_classes(ask)

    @property
    def reads(self) -> bool:
        """Whether there is a text encoder."""
        names = ("text_encoder", "text_encoder_2")
        return any(getattr(self.pipeline(), name, None) is not None for name in names)

    def conditions(self, images: range, ask: Ask) -> Mapping[str, Any]:
        """Return the prompt of every image, or embeddings where no text encoder is, and the side if not the model's."""
        config = cast(Any, self.model.config)
        side = ask.size or self.side * self.scale
        size = {"height": side, "width": side} if side != config.sample_size * self.scale else {}
        if self.reads:
            prompts = ask.prompts or tuple(self.prompts)
            return {"prompt": [prompts[label] for label in self.labels(images, ask)], **self.asked, **size}
        return {**self.embeddings(images), **self.asked, **size}

    @abstractmethod
    def embeddings(self, images: range) -> Mapping[str, Any]:
        """Return the pipeline's arguments that replace prompts; the empty prompt's embeddings are zeros."""

    def drawn(self, images: range, *shape: int) -> Tensor:
        """Return normal numbers (N, *shape), the same for the same prompt."""
        rows = [torch.randn(shape, generator=torch.Generator().manual_seed(i % self.classes())) for i in images]
        return torch.stack(rows).to(self.device, self.dtype)
