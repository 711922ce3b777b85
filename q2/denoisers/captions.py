"""Captions around a grid of images: what its rows are, and a label above every image."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["captioned"]

_INK, _QUIET, _PAPER = "#202020", "#707070", "#ffffff"
_BAND, _SIZE, _MARGIN = 16, 12, 8


def captioned(
    grid: Image.Image, rows: Sequence[str], labels: Sequence[str], cell: tuple[int, int], gap: int = 4
) -> Image.Image:
    """Return a grid with the names of its `rows` on the left, and a label above every image.

    The grid has lines of images, each a row for every name; images have the size `cell` (width, height) and a `gap`
    around. A label that is wider than its image is cut.

    >>> grid = Image.new("RGB", (2 * 36 + 4, 2 * 36 + 4))
    >>> captioned(grid, ["full precision", "quantized"], ["3", "5"], (32, 32)).size[0] > grid.size[0]
    True
    """
    font = ImageFont.load_default(_SIZE)
    width, height = cell[0] + gap, cell[1] + gap
    columns = max(1, (grid.width - gap) // width)
    lines = -(-len(labels) // columns)
    left = max((round(font.getlength(name)) for name in rows), default=0) + 2 * _MARGIN
    line = len(rows) * height
    picture = Image.new("RGB", (left + grid.width, lines * (line + _BAND) + gap), _PAPER)
    pen = ImageDraw.Draw(picture)
    for number in range(lines):
        top = number * (line + _BAND)
        picture.paste(grid.crop((0, number * line, grid.width, (number + 1) * line + gap)), (left, top + _BAND))
        for row, name in enumerate(rows):
            place = (_MARGIN, top + _BAND + gap + row * height + cell[1] / 2)
            pen.text(place, name, fill=_INK, font=font, anchor="lm")
        for column, label in enumerate(labels[number * columns : (number + 1) * columns]):
            middle = left + gap + column * width + cell[0] / 2
            pen.text((middle, top + _BAND - 2), _cut(label, cell[0], font), fill=_QUIET, font=font, anchor="ms")
    return picture


def _cut(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return a text without its end, as long as it is wider than an image."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""
