"""What people ask a denoiser to draw, where its own prompts or classes in turn are not meant."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Ask", "latents_of"]


@dataclass(frozen=True)
class Ask:
    """Prompts or class ids, taken in turn; the images' side in pixels; the guidance scale. None: as the denoiser does.

    >>> Ask(classes=(3, 5)).turn((3, 5), range(4))
    [3, 5, 3, 5]
    """

    prompts: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    size: int | None = None
    guidance: float | None = None

    def turn(self, things: tuple[Any, ...], images: range) -> list[Any]:
        """Return the thing of every image."""
        return [things[i % len(things)] for i in images]


@contextmanager
def latents_of(pipeline: Any) -> Iterator[list[Tensor]]:
    """Yield a list that collects what the autoencoder is given to decode, float32 (N, C, h, w), on the CPU."""
    kept: list[Tensor] = []
    decode = pipeline.vae.decode

    def keep(latents: Tensor, *args: Any, **options: Any) -> Any:
        kept.append(latents.detach().float().cpu())
        return decode(latents, *args, **options)

    pipeline.vae.decode = keep
    try:
        yield kept
    finally:
        del pipeline.vae.decode
