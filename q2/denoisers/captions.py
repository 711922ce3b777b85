"""Captions around a grid of images: what its rows are, and a label above every image."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

__all__ = ["captioned", "wrapped"]

_INK, _QUIET, _PAPER = "#202020", "#707070", "#ffffff"
_BAND, _SIZE, _MARGIN = 16, 12, 8
_LINES = 4
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def captioned(
    grid: Image.Image, rows: Sequence[str], labels: Sequence[str], cell: tuple[int, int], gap: int = 4
) -> Image.Image:
    """Return a grid with the names of its `rows` on the left, and a label above every image.

    The grid has lines of images, each a row for every name; images have the size `cell` (width, height) and a `gap`
    around. A label that is wider than its image takes up to four lines, and is cut where these are not enough.

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
    texts = [wrapped(label, cell[0], font) for label in labels]
    band = _BAND + _SIZE * (max(map(len, texts), default=1) - 1)
    picture = Image.new("RGB", (left + grid.width, lines * (line + band) + gap), _PAPER)
    pen = ImageDraw.Draw(picture)
    for number in range(lines):
        top = number * (line + band)
        picture.paste(grid.crop((0, number * line, grid.width, (number + 1) * line + gap)), (left, top + band))
        for row, name in enumerate(rows):
            place = (_MARGIN, top + band + gap + row * height + cell[1] / 2)
            pen.text(place, name, fill=_INK, font=font, anchor="lm")
        for column, text in enumerate(texts[number * columns : (number + 1) * columns]):
            middle = left + gap + column * width + cell[0] / 2
            for above, part in enumerate(reversed(text)):
                pen.text((middle, top + band - 2 - above * _SIZE), part, fill=_QUIET, font=font, anchor="ms")
    return picture


def wrapped(text: str, width: int, font: Font, most: int = _LINES) -> list[str]:
    """Return a text in lines no wider than `width` pixels, broken between words, the last of `most` cut.

    >>> wrapped("a red circle above a blue square", 80, ImageFont.load_default(12))
    ['a red circle', 'above a blue', 'square']
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (font.getlength(longer) <= width or len(lines) == most):
            lines[-1] = longer
        else:
            lines.append(word)
    return [_cut(line, width, font) for line in lines] or [""]


def _cut(text: str, width: int, font: Font) -> str:
    """Return a text without its end, as long as it is wider than an image."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…" if text else ""
