"""Images for pipelines that start from one: drawn from numbers, the same on every machine, or a file of the user's."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from q2.errors import ConfigError, why

__all__ = ["mask", "opened", "picture", "video"]


def picture(index: int, height: int, width: int, shift: float = 0.0) -> Image.Image:
    """Return image number `index`: a ground of two colours and a disc, moved to the right by `shift` of the width.

    >>> picture(3, 16, 24).size
    (24, 16)
    """
    random = np.random.default_rng(index)
    sky, ground, disc = random.uniform(0, 255, (3, 3))
    x, y, radius = random.uniform((0.3, 0.3, 0.15), (0.7, 0.7, 0.25))
    rows, columns = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    share = rows[..., None]
    pixels = sky * (1 - share) + ground * share
    inside = (columns - x - shift) ** 2 + (rows - y) ** 2 < radius**2
    pixels = np.where(inside[..., None], disc, pixels)
    return Image.fromarray(pixels.round().astype(np.uint8))


def mask(height: int, width: int) -> Image.Image:
    """Return the mask of what is to be drawn anew: white in the middle half of the sides.

    >>> int(np.asarray(mask(8, 8)).sum()) // 255
    16
    """
    pixels = np.zeros((height, width), np.uint8)
    pixels[height // 4 : height - height // 4, width // 4 : width - width // 4] = 255
    return Image.fromarray(pixels)


def video(index: int, height: int, width: int, frames: int) -> list[Image.Image]:
    """Return the frames of video number `index`: its disc moves to the right."""
    return [picture(index, height, width, 0.3 * frame / frames) for frame in range(frames)]


def opened(name: str, path: str) -> Image.Image:
    """Return the image in a file. Raises `ConfigError`, with the setting's name."""
    try:
        with Image.open(Path(path)) as image:
            return image.convert("L" if "mask" in name else "RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise ConfigError(f"arguments.{name}: {path}: cannot be read as an image: {why(error)}") from error
