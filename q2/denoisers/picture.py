"""The picture of a comparison: full precision above quantized, same noise, with the judge's accuracy for each."""

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from q2.denoisers.captions import wrapped
from q2.denoisers.comparison import Comparison

__all__ = ["draw", "picture_of", "sheet"]

CELL, GAP, LEFT, TOP, LABEL = 96, 6, 170, 58, 18
INK, QUIET, WRONG, PAPER = "#202020", "#707070", "#c62828", "#ffffff"


def draw(comparison: Comparison, title: str, rows: int = 3, columns: int = 10) -> Image.Image:
    """Return a labelled grid of the first images, at most `rows` pairs of rows; misread images have a red frame."""
    count = min(len(comparison.full.labels), rows * columns)
    pairs = -(-count // columns)
    names = [wrapped(comparison.title(int(label)), CELL, _font(14)) for label in comparison.full.labels[:count]]
    band = LABEL * max(map(len, names), default=1)
    pair_height = band + 2 * CELL + 3 * GAP
    picture = Image.new("RGB", (LEFT + columns * (CELL + GAP) + GAP, TOP + pairs * pair_height + GAP), PAPER)
    pen = ImageDraw.Draw(picture)
    pen.text((GAP * 2, GAP * 2), title, fill=INK, font=_font(20))
    pen.text((GAP * 2, GAP * 2 + 26), _legend(comparison), fill=QUIET, font=_font(13))
    for index in range(count):
        pair, column = divmod(index, columns)
        x, y = LEFT + column * (CELL + GAP), TOP + pair * pair_height
        label = int(comparison.full.labels[index])
        for line, text in enumerate(reversed(names[index])):
            place = (x + CELL / 2, y + band - (line + 0.5) * LABEL)
            pen.text(place, text, fill=QUIET, font=_font(14), anchor="mm")
        for row, (name, image, seen) in enumerate(_both(comparison, index)):
            corner = (x, y + band + row * (CELL + GAP))
            picture.paste(_tile(image), corner)
            if seen is not None and seen != label:
                box = (corner[0] - 2, corner[1] - 2, corner[0] + CELL + 1, corner[1] + CELL + 1)
                pen.rectangle(box, outline=WRONG, width=3)
                read = "\n".join(wrapped(comparison.title(seen), CELL - 8, _font(14)))
                pen.multiline_text((corner[0] + 4, corner[1] + 2), read, fill=WRONG, font=_font(14), spacing=1)
            if column == 0:
                pen.text((GAP * 2, corner[1] + CELL / 2), name, fill=INK, font=_font(15), anchor="lm")
    return picture


def _both(comparison: Comparison, index: int) -> Iterator[tuple[str, Tensor, int | None]]:
    sets = (
        ("full precision", comparison.full, comparison.full_read),
        ("quantized", comparison.quantized, comparison.quantized_read),
    )
    for name, samples, seen in sets:
        image = samples.images[index * samples.frames]  # of a video its first frame
        yield name, image, None if seen is None else int(seen[index])


def picture_of(image: Tensor) -> Image.Image:
    """Return an image, float (C, H, W) in [0, 1], as a picture, grey if C is 1."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def sheet(sets: Sequence[Tensor], columns: int = 8, gap: int = 4, most: int = 24) -> Image.Image:
    """Return the first `most` images, float (N, C, H, W), of every set in rows, the first set's above the second's."""
    count, _, height, width = sets[0][:most].shape
    columns = min(columns, count)
    lines = -(-count // columns)
    size = (columns * (width + gap) + gap, lines * len(sets) * (height + gap) + gap)
    picture = Image.new("RGB", size, PAPER)
    for i in range(count):
        line, column = divmod(i, columns)
        for row, images in enumerate(sets):
            corner = (gap + column * (width + gap), gap + (line * len(sets) + row) * (height + gap))
            picture.paste(picture_of(images[i]).convert("RGB"), corner)
    return picture


def _tile(image: Tensor) -> Image.Image:
    return picture_of(image).convert("RGB").resize((CELL, CELL), Image.Resampling.BICUBIC)


def _legend(comparison: Comparison) -> str:
    count, accuracy = len(comparison.full.labels), comparison.accuracy
    if accuracy is None:
        return f"{count} images each, same noise"
    return (
        f"{count} images each, same noise · recognised: full precision {accuracy.full:.1%}, "
        f"quantized {accuracy.quantized:.1%} · a red frame: read as another"
    )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
