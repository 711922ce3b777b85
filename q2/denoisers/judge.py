"""Small convolutional classifiers that judge what the embedded denoisers draw: of digits, and of scenes of shapes.

Their logits say which class an image shows; their penultimate features serve Frechet distances between sets of images.
They are trained by `examples/train_digits` and `examples/train_scenes` on real images only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from q2.denoisers.shapes import COLOURS, LAYOUTS, SCENES, SHAPES
from q2.errors import CheckpointError
from q2.files import read_json

__all__ = ["DigitsJudge", "Judge", "ScenesJudge"]

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


class Judge(nn.Module):
    """Classify images of `channels` colours; the last layer puts out `outputs` numbers.

    Parameters
    ----------
    size
        Side to which every image is resized first; a multiple of 4.
    width
        Channels of the first stage; the second has twice as many.
    n_features
        Length F of the penultimate features.
    """

    channels: ClassVar[int]
    outputs: ClassVar[int]

    def __init__(self, size: int = 16, width: int = 32, n_features: int = 64) -> None:
        super().__init__()
        self.config: dict[str, int] = {"size": size, "width": width, "n_features": n_features}
        self.body = nn.Sequential(_stage(self.channels, width), _stage(width, 2 * width))
        self.neck = nn.Linear(2 * width * (size // 4) ** 2, n_features)
        self.head = nn.Linear(n_features, self.outputs)
        self.moments: dict[str, Tensor] = {}

    def features(self, images: Tensor) -> Tensor:
        """Return penultimate features (N, F) of images (N, channels, H, W) in [0, 1]."""
        size = self.config["size"]
        if tuple(images.shape[-2:]) != (size, size):
            images = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
        hidden: Tensor = self.body(2 * images - 1)
        return F.relu(self.neck(hidden.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, channels, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def title(self, label: int) -> str:
        """Return what a class is called above its image; -1 is none."""
        return str(label) if label >= 0 else "?"

    def save(self, folder: str | Path, record: Mapping[str, float] | None = None) -> None:
        """Write config.json and model.safetensors; `record` (accuracies, seeds) is kept beside the sizes."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architecture": type(self).__name__, **self.config, "record": dict(record or {})}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.contiguous() for name, value in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the judge saved in a folder, in evaluation mode."""
        folder = Path(folder)
        config = read_json(folder / CONFIG)
        judge = cls(size=config["size"], width=config["width"], n_features=config["n_features"])
        judge.load_state_dict(load_file(folder / WEIGHTS))
        if (folder / REAL).exists():
            judge.moments = load_file(folder / REAL)
        return judge.eval()

    def real(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean (F,) and covariance (F, F) of the features of real images. Raises `CheckpointError`."""
        if not self.moments:
            raise CheckpointError(f"the judge lacks {REAL}, the features of real images")
        return self.moments["mean"].numpy(), self.moments["covariance"].numpy()


class DigitsJudge(Judge):
    """Classify grey images of one digit each.

    >>> import torch
    >>> judge = DigitsJudge().eval()
    >>> images = torch.rand(3, 1, 32, 32)
    >>> tuple(judge(images).shape), tuple(judge.features(images).shape)
    ((3, 10), (3, 64))
    """

    channels: ClassVar[int] = 1
    outputs: ClassVar[int] = 10


class ScenesJudge(Judge):
    """Classify colour images of scenes: the layout, and colour and shape of each thing.

    A scene's logit is the sum of the logarithms of its parts' probabilities, so an image is recognised only where
    the layout and every colour and shape in it are right.

    >>> import torch
    >>> judge = ScenesJudge(size=32, width=4).eval()
    >>> tuple(judge(torch.rand(3, 3, 64, 64)).shape)
    (3, 1230)
    >>> judge.title(0)
    'green triangle above blue square'
    """

    channels: ClassVar[int] = 3
    parts: ClassVar[tuple[int, ...]] = (len(LAYOUTS), *(2 * (len(COLOURS), len(SHAPES))))
    outputs: ClassVar[int] = sum(parts)

    def __init__(self, size: int = 32, width: int = 24, n_features: int = 64) -> None:
        super().__init__(size, width, n_features)
        self.register_buffer("members", self._members(), persistent=False)

    @classmethod
    def _members(cls) -> Tensor:
        """Return which outputs make up each scene: zeros and ones (outputs, scenes)."""
        members = torch.zeros(cls.outputs, len(SCENES))
        for number, scene in enumerate(SCENES):
            own = [LAYOUTS.index(scene.layout)]
            for thing in scene.things:
                own += [COLOURS.index(thing.colour), SHAPES.index(thing.shape)]
            first = 0
            for place, length in zip(own, cls.parts, strict=False):
                members[first + place, number] = 1
                first += length
        return members

    def log_shares(self, images: Tensor) -> Tensor:
        """Return logarithms of probabilities (N, outputs), of each part in turn, of images (N, 3, H, W) in [0, 1]."""
        raw: Tensor = self.head(self.features(images))
        return torch.cat([part.log_softmax(1) for part in raw.split(self.parts, dim=1)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 1230) of images (N, 3, H, W) in [0, 1]."""
        members = self.get_buffer("members")
        return self.log_shares(images) @ members

    def title(self, label: int) -> str:
        """Return a scene's caption without its articles."""
        return str(SCENES[label]).replace("an ", "").replace("a ", "") if label >= 0 else "?"
