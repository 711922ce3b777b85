"""What a page consists of: tables, charts and pictures, each under a heading."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from q2.errors import Q2Error, why

__all__ = ["Chart", "Pair", "Picture", "Section", "Summary", "Table", "number", "picture", "short"]

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers align and sort as numbers. `marked` rows stand out, `long` tables sort and filter."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    long: bool = False


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification, without size and colours of the page, and what it says for who cannot see it."""

    spec: Mapping[str, Any]
    alt: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """An image as a data URI."""

    uri: str
    alt: str


@dataclass(frozen=True)
class Pair:
    """Two images of one size, to be compared by a slider: `left` below, `right` above."""

    left: Picture
    right: Picture


@dataclass(frozen=True)
class Section:
    """A heading, a sentence or two, and what is shown."""

    title: str
    parts: Sequence[Table | Chart | Picture | Pair] = ()
    text: str = ""


@dataclass(frozen=True)
class Summary:
    """What a reader sees first: a verdict, a few figures (value, name), the front beside them, then the sections."""

    title: str
    subtitle: str
    verdict: str
    figures: Sequence[tuple[str, str]] = ()
    first: Sequence[Table | Chart] = ()
    sections: Sequence[Section] = field(default_factory=tuple)


def short(title: str) -> str:
    """Return a path's last two parts, since recipes are often called recipe.toml; any other title as it is.

    >>> short("runs/a/recipe.toml"), short("full precision")
    ('a/recipe.toml', 'full precision')
    """
    return "/".join(Path(title).parts[-2:]) or title


def number(value: float) -> str:
    """Return a number as people read it: four significant digits.

    >>> number(3.14159), number(1234567.0)
    ('3.142', '1.235e+06')
    """
    return f"{value:.4g}"


def picture(path: Path, alt: str, most: int = 700_000) -> Picture:
    """Embed a picture file: SVG as it is, others as they are up to `most` bytes and else as WebP. Raises `Q2Error`."""
    try:
        data = path.read_bytes()
        kind = "svg+xml" if path.suffix == ".svg" else path.suffix[1:]
        if kind != "svg+xml" and len(data) > most:
            from PIL import Image

            beside = io.BytesIO()
            Image.open(io.BytesIO(data)).convert("RGB").save(beside, format="WEBP", quality=88)
            data, kind = beside.getvalue(), "webp"
    except OSError as error:
        raise Q2Error(f"{path}: cannot be read: {why(error)}") from error
    return Picture(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", alt)
