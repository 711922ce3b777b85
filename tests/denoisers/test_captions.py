"""Captions around a grid: the images are as they were, with room for names and labels."""

import numpy as np
from PIL import Image

from q2.denoisers.captions import captioned


def grid(lines: int, rows: int, columns: int) -> tuple[Image.Image, np.ndarray]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 255, size=(lines * rows * 36 + 4, columns * 36 + 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels), pixels


def test_every_line_of_the_grid_is_there_with_a_band_above() -> None:
    picture, pixels = grid(2, 2, 3)
    found = np.asarray(captioned(picture, ["full precision", "quantized"], ["3", "5", "0", "1"], (32, 32)))
    left = found.shape[1] - pixels.shape[1]
    assert left > 60
    assert found.shape[0] == 2 * (2 * 36 + 16) + 4
    for line in range(2):
        top = line * (72 + 16) + 16
        assert (found[top : top + 72, left:] == pixels[line * 72 : line * 72 + 72]).all()
        band = found[top - 16 : top, left:]
        assert (band < 200).any()  # labels
    assert (found[:, : left - 8] < 200).any()  # names


def test_a_long_prompt_is_cut_to_its_image() -> None:
    picture, pixels = grid(1, 1, 2)
    one = np.asarray(captioned(picture, ["quantized"], ["a very long prompt of many words", "b"], (32, 32)))
    left = one.shape[1] - pixels.shape[1]
    between = one[:16, left + 4 + 33 : left + 36 + 3]
    assert (between > 250).all()
