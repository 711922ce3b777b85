"""The final latents of a pipeline: what its autoencoder is given to decode."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["autoencoder", "latents_of"]

_NAMES = ("vae", "movq", "vqvae", "vqgan")


def autoencoder(pipeline: Any) -> Any:
    """Return what a pipeline decodes its latents with; None where it draws pixels."""
    found = (getattr(pipeline, name, None) for name in _NAMES)
    return next((each for each in found if isinstance(each, nn.Module) and hasattr(each, "decode")), None)


@contextmanager
def latents_of(pipeline: Any) -> Iterator[list[Tensor]]:
    """Yield a list that collects what the autoencoder is given to decode, float32 (N, C, h, w), on the CPU."""
    kept: list[Tensor] = []
    decoder = autoencoder(pipeline)
    with ExitStack() as stack:
        if decoder is not None:
            decode = decoder.decode

            def keep(latents: Any, *args: Any, **options: Any) -> Any:
                if isinstance(latents, Tensor):
                    values = latents if latents.is_floating_point() else latents.to(torch.float32)
                    kept.append(values.detach().float().cpu())
                return decode(latents, *args, **options)

            decoder.decode = keep
            stack.callback(lambda: vars(decoder).pop("decode", None))
        yield kept
