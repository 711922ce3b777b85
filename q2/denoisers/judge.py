"""A small convolutional classifier of handwritten digits: the judge of what the embedded denoiser draws.

Its logits say which digit an image shows; its penultimate features serve Frechet distances between sets of images.
It is trained by `examples/train_digits/train_judge.py` on real digits only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from q2.errors import CheckpointError
from q2.files import read_json

__all__ = ["DigitsJudge"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
REAL = "real.safetensors"


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions with batch norm, then a halving of the side."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2),
    )


class DigitsJudge(nn.Module):
    """Classify grey images of one digit each.

    Parameters
    ----------
    size
        Side to which every image is resized first; a multiple of 4.
    width
        Channels of the first stage; the second has twice as many.
    n_features
        Length F of the penultimate features.

    Examples
    --------
    >>> import torch
    >>> judge = DigitsJudge().eval()
    >>> images = torch.rand(3, 1, 32, 32)
    >>> tuple(judge(images).shape), tuple(judge.features(images).shape)
    ((3, 10), (3, 64))
    """

    def __init__(self, size: int = 16, width: int = 32, n_features: int = 64) -> None:
        super().__init__()
        self.config: dict[str, int] = {"size": size, "width": width, "n_features": n_features}
        self.body = nn.Sequential(_stage(1, width), _stage(width, 2 * width))
        self.neck = nn.Linear(2 * width * (size // 4) ** 2, n_features)
        self.head = nn.Linear(n_features, 10)
        self.moments: dict[str, Tensor] = {}

    def features(self, images: Tensor) -> Tensor:
        """Return penultimate features (N, F) of grey images (N, 1, H, W) in [0, 1]."""
        size = self.config["size"]
        if tuple(images.shape[-2:]) != (size, size):
            images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        hidden: Tensor = self.body(2 * images - 1)
        return F.relu(self.neck(hidden.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10) of grey images (N, 1, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def save(self, folder: str | Path, record: Mapping[str, float] | None = None) -> None:
        """Write config.json and model.safetensors; `record` (accuracies, seeds) is kept beside the sizes."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architecture": type(self).__name__, **self.config, "record": dict(record or {})}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: str | Path) -> DigitsJudge:
        """Return the judge saved in a folder, in evaluation mode."""
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        judge = cls(size=config["size"], width=config["width"], n_features=config["n_features"])
        judge.load_state_dict(load_file(folder / WEIGHTS))
        if (folder / REAL).exists():
            judge.moments = load_file(folder / REAL)
        return judge.eval()

    def real(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (F,) and covariance (F, F) of the features of real digits. Raises `CheckpointError`."""
        if not self.moments:
            raise CheckpointError(f"the judge lacks {REAL}, the features of real digits")
        return self.moments["mean"].numpy(), self.moments["covariance"].numpy()
