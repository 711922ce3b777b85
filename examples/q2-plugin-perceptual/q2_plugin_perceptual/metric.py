"""The metric `LPIPS`: how different images look from full precision's, by the features of a small network."""

import math
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from q2.denoisers import Denoiser
from q2.errors import ConfigError, why
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.settings import EvaluationSettings

__all__ = ["VARIABLE", "Lpips"]

VARIABLE = "Q2_LPIPS_WEIGHTS"
"""The environment variable that names the file with the weights."""
STAGES = ((0, 4, 2, False), (3, 1, 2, True), (6, 1, 1, True), (8, 1, 1, False), (10, 1, 1, False))
"""AlexNet's convolutions: number in ``features``, stride, padding, and whether a pooling stands before."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
Weights = dict[str, Tensor]


class Lpips(ImageMetric):
    """Learned perceptual distance of the images to full precision's, 0 for equal ones (Zhang et al., CVPR'18, eq. 1).

    The environment variable ``Q2_LPIPS_WEIGHTS`` names a file, safetensors or of torch, with AlexNet's weights as
    torchvision names them (``features.0.weight``, …) and LPIPS' own as its package does (``lin0.model.1.weight``, …).
    """

    name = "LPIPS"
    better = "lower"
    bounds = (0.0, math.inf)

    @classmethod
    def check(cls, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        """Raise `ConfigError` where the variable is not set, and for a file that has not the weights."""
        _read()

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        self.weights = {name: value.to(denoiser.device) for name, value in _read().items()}

    def rows(self, chunk: Chunk) -> Array:
        """Return the distance of each image, of a video the mean over its frames."""
        made, full = (self._stages(samples.images.clamp(0, 1)) for samples in (chunk.made, chunk.full))
        total = torch.zeros(len(chunk.made.images), dtype=torch.float64)
        for number, (one, other) in enumerate(zip(made, full, strict=True)):
            weighted = (one - other).square() * self.weights[f"lin{number}.model.1.weight"]
            total += weighted.sum(1).mean((1, 2)).double().cpu()
        return np.asarray(total.view(len(chunk.made.labels), -1).mean(1))

    def _stages(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the features (N, C, h, w) of images (N, 1 or 3, H, W) in 0 to 1 at every stage, of length 1 each."""
        first = self.weights["features.0.weight"]
        shift, scale = (first.new_tensor(each).view(1, 3, 1, 1) for each in (SHIFT, SCALE))
        x = (2 * images.to(first).expand(-1, 3, -1, -1) - 1 - shift) / scale
        for number, stride, padding, pooled in STAGES:
            x = F.max_pool2d(x, 3, 2) if pooled else x
            x = F.conv2d(
                x, self.weights[f"features.{number}.weight"], self.weights[f"features.{number}.bias"], stride, padding
            ).relu()
            yield x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _read() -> Weights:
    """Return the weights in the file that the variable names. Raises `ConfigError`, one line."""
    where = os.environ.get(VARIABLE, "")
    if not where:
        raise ConfigError(f"LPIPS: set the environment variable {VARIABLE} to a file with its weights")
    path = Path(where)
    try:
        return _loaded(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ConfigError(f"{VARIABLE}: {where}: cannot be read: {why(error)}") from error


@lru_cache(maxsize=1)
def _loaded(path: Path, changed: int) -> Weights:
    """Return the tensors that the metric needs, float32, of the shapes that fit each other."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        found = {str(name): value.float() for name, value in found.items()}
    except OSError:
        raise
    except (SafetensorError, ValueError, RuntimeError, EOFError, AttributeError, TypeError) as error:
        raise ConfigError(f"{VARIABLE}: {path}: holds no tensors: {str(error).splitlines()[0][:120]}") from error
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ConfigError(f"{VARIABLE}: {path}: holds more than tensors, and is not loaded") from error
    weights: Weights = {}
    channels = 3
    for stage, (number, *_) in enumerate(STAGES):
        for name, ends in ((f"features.{number}.weight", 4), (f"features.{number}.bias", 1)):
            weights[name] = _tensor(found, path, name, ends)
        if weights[f"features.{number}.weight"].shape[1] != channels:
            raise ConfigError(f"{VARIABLE}: {path}: features.{number}.weight does not read {channels} channels")
        channels = len(weights[f"features.{number}.bias"])
        name = f"lin{stage}.model.1.weight"
        weights[name] = _tensor(found, path, name, 4)
        if weights[name].shape != (1, channels, 1, 1):
            raise ConfigError(f"{VARIABLE}: {path}: {name} is not of shape (1, {channels}, 1, 1)")
    return weights


def _tensor(found: Weights, path: Path, name: str, dims: int) -> Tensor:
    if name not in found:
        raise ConfigError(f"{VARIABLE}: {path}: has no {name!r}")
    if found[name].ndim != dims:
        raise ConfigError(f"{VARIABLE}: {path}: {name} has {found[name].ndim} dimensions, expected {dims}")
    return found[name]
