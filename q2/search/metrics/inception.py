"""Metrics of Inception's features as clean-fid computes them (Parmar et al., CVPR'22): FID and KID."""

import importlib
import math
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from q2.denoisers import Denoiser, Samples
from q2.errors import ConfigError
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.cleanfid import clean_fid
from q2.search.metrics.folder import pictures
from q2.search.metrics.frechet import frechet_estimate, frechet_paired, moments
from q2.search.metrics.intervals import Estimate, Labels
from q2.search.metrics.kernel import kid_estimate
from q2.settings import EvaluationSettings

__all__ = ["FidFp", "FidGt", "Kid"]

_FILE = "inception-2015-12-05.pt"
_SOURCE = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{_FILE}"


class _Inception(ImageMetric):
    better = "lower"
    real: ClassVar[bool] = False
    """Whether it is measured against real images."""

    @classmethod
    def check(cls, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        """Raise `ConfigError` where Inception's weights, clean-fid or the reference that it needs are missing."""
        with clean_fid():
            _file(cls.name, settings.inception)
        if cls.real and not (cls is FidGt and settings.reference.endswith(".npz")):
            _real(cls.name, settings)

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        self.features = _features(_file(self.name, settings.inception), str(denoiser.device))

    def rows(self, chunk: Chunk) -> Array:
        """Return Inception's 2048 features of each image."""
        return chunk.features("inception", self.features)


class FidGt(_Inception):
    """Fréchet distance of Inception's features to those of real images: FID, as clean-fid computes it."""

    name = "FID-GT-1k"
    real = True
    bounds = (0.0, math.inf)

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        super().__init__(denoiser, settings)
        self.moments = _statistics(settings.reference) if settings.reference.endswith(".npz") else None
        if self.moments is None:
            _ = _real(self.name, settings)
            self.against = "real"

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return clean-fid's distance of features (N, 2048) to the folder's images, or to the file's moments."""
        if self.moments is not None:
            return frechet_estimate(rows, *self.moments, labels, value=_distance(rows, *self.moments))
        assert other is not None
        there = moments(other)
        return frechet_estimate(rows, *there, labels, value=_distance(rows, *there))


class FidFp(_Inception):
    """Fréchet distance of Inception's features to those of full precision's images."""

    name = "FID-FP-1k"
    bounds = (0.0, math.inf)
    against = "full"

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return clean-fid's distance of features (N, 2048) to `other`, those of full precision's images."""
        assert other is not None
        return frechet_paired(rows, other, labels, value=_distance(rows, *moments(other)))


class Kid(_Inception):
    """Kernel distance of Inception's features to those of real images (Bińkowski et al., ICLR'18)."""

    name = "KID"
    real = True
    against = "real"

    def __init__(self, denoiser: Denoiser, settings: EvaluationSettings) -> None:
        super().__init__(denoiser, settings)
        _ = _real(self.name, settings)

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate:
        """Return the distance of features (N, 2048) to `other`, those of the folder's images."""
        assert other is not None
        return kid_estimate(rows, other, labels)


def _distance(rows: Array, mean: Array, covariance: Array) -> float:
    """Return clean-fid's distance, which is not below 0 but for rounding."""
    with clean_fid() as fid:
        return float(fid.frechet_distance(*moments(rows), mean, covariance))


def _statistics(path: str) -> tuple[Array, Array]:
    """Read mean ``mu`` and covariance ``sigma`` of features, as clean-fid keeps them. Raises `ConfigError`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (np.asarray(file[key], np.float64) for key in ("mu", "sigma"))
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(
            f"search.evaluation.reference: {path}: expected an npz file with mu and sigma: {error}"
        ) from error
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ConfigError(
            f"search.evaluation.reference: {path}: mu {mean.shape} and sigma {covariance.shape} do not fit"
        )
    return mean, covariance


def _real(name: str, settings: EvaluationSettings) -> list[Path]:
    """Return the real images. Raises `ConfigError` where there are none."""
    if not settings.reference or settings.reference.endswith(".npz"):
        raise ConfigError(f"{name}: needs search.evaluation.reference, a folder of real images")
    return pictures(settings.reference)


def _file(name: str, given: str) -> Path:
    """Return Inception's file: the one that is named, or clean-fid's own. Raises `ConfigError`: what to put where."""
    path = Path(given) if given else Path(tempfile.gettempdir()) / _FILE
    if path.is_dir():
        path /= _FILE
    if path.is_file():
        return path
    if not given:
        try:
            importlib.import_module("cleanfid.downloads_helper").check_download_inception(str(path.parent))
        except (ImportError, OSError):
            path.unlink(missing_ok=True)  # a part of it would be taken for the whole
    if not path.is_file():
        hint = "or name another place: search.evaluation.inception" if not given else "see search.evaluation.inception"
        raise ConfigError(f"{name}: Inception's weights are missing: put {_SOURCE} at {path}, {hint}")
    return path


@lru_cache(maxsize=1)
def _features(file: Path, device: str) -> Callable[[Samples], Array]:
    """Return what makes features (N, 2048) of images, as clean-fid does: bicubic with antialiasing, to 299 pixels."""
    with clean_fid() as fid:
        resize = fid.build_resizer("clean")
    try:
        network = torch.jit.load(str(file), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"search.evaluation.inception: {file}: no TorchScript network: {str(error)[:80]}") from error

    def features(samples: Samples) -> Array:
        pixels = (samples.images.expand(-1, 3, -1, -1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        small = np.stack([resize(image) for image in pixels]).transpose(0, 3, 1, 2)
        with torch.no_grad():
            found = network.layers((torch.from_numpy(small).to(device) - 128) / 128)
        return np.asarray(found.reshape(len(small), -1).double().cpu())

    return features
