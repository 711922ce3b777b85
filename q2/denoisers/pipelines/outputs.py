"""What a pipeline gave, as images: of diffusers' outputs, arrays and pictures of every kind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from q2.errors import ConfigError

__all__ = ["images_of"]

_IMAGES = ("images", "frames", "videos", "image", "prediction")


def images_of(output: Any, name: str, count: int) -> Tensor:
    """Return the images of the pipeline called `name`, float (N, C, H, W) in [0, 1] on the CPU; N is `count` times F.

    Frames of a video are images in turn. Raises `ConfigError` where the pipeline gives none: sound, embeddings.

    >>> from types import SimpleNamespace
    >>> images_of(SimpleNamespace(frames=np.zeros((2, 5, 8, 8, 3))), "WanPipeline", 2).shape
    torch.Size([10, 3, 8, 8])
    """
    found = next((value for key in _IMAGES if (value := getattr(output, key, None)) is not None), None)
    if found is None:
        given = ", ".join(key for key in vars(output)) if hasattr(output, "__dict__") else type(output).__name__
        raise ConfigError(f"{name} gives no images but {given or 'nothing'}, and q2 measures images")
    images = _tensor(found)
    if images.ndim < 4 or len(images) == 0 or len(images.reshape(-1, *images.shape[-3:])) % count:
        raise ConfigError(f"{name} gives an array {tuple(images.shape)} for {count} images, expected (N, C, H, W)")
    return images.reshape(-1, *images.shape[-3:])


def _tensor(found: Any) -> Tensor:
    """Return what was found, channels first."""
    if isinstance(found, Tensor):
        return found.detach().float().cpu()
    if isinstance(found, np.ndarray):
        values = torch.from_numpy(np.ascontiguousarray(found, np.float32))
        return values.movedim(-1, -3) if values.ndim > 2 else values
    if isinstance(found, Sequence) and found:
        parts = [_tensor(each) for each in found]
        return torch.stack(parts) if parts[0].ndim else torch.empty(0)
    if hasattr(found, "convert"):  # a picture of PIL's
        return torch.from_numpy(np.array(found.convert("RGB"), np.float32) / 255).movedim(-1, -3)
    return torch.empty(0)
