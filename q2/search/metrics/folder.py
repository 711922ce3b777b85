"""Folders of real images, which generated ones are compared with."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from q2.denoisers import Samples
from q2.errors import ConfigError

__all__ = ["pictures", "samples_of"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def pictures(folder: str) -> list[Path]:
    """Return the images in a folder and the folders in it, sorted. Raises `ConfigError` where there are none."""
    if not folder or not Path(folder).is_dir():
        found = f"{folder!r} is no folder of images" if folder else "is not set, expected a folder of images"
        raise ConfigError(f"search.evaluation.reference: {found}")
    images = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in _ENDINGS)
    if len(images) < 2:
        kinds = ", ".join(_ENDINGS)
        raise ConfigError(
            f"search.evaluation.reference: {folder}: {len(images)} images, expected two or more ({kinds})"
        )
    return images


def samples_of(path: Path) -> Samples:
    """Return one image as samples (1, 3, H, W). Raises `ConfigError` for a file that is no image."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"search.evaluation.reference: {path}: no image ({error})") from error
    return Samples(
        torch.from_numpy(values.copy()).permute(2, 0, 1)[None].float() / 255, torch.zeros(1, dtype=torch.long)
    )
