"""Draw a scene of coloured shapes: 64x64, anti-aliased, every time a little different."""

from __future__ import annotations

import colorsys
import math
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from q2.denoisers.shapes import SCENES, Scene, Thing

SIZE, FINER = 64, 4
HUES = {"red": 0.0, "orange": 0.085, "yellow": 0.15, "green": 0.36, "blue": 0.6, "purple": 0.78}
Point = tuple[float, float]


def draw_scene(scene: Scene, source: random.Random) -> np.ndarray:
    """Return the picture of a scene, bytes (64, 64, 3)."""
    paper = colorsys.hsv_to_rgb(source.random(), source.uniform(0, 0.12), source.uniform(0.9, 1))
    picture = Image.new("RGB", (SIZE * FINER,) * 2, _bytes(paper))
    pen = ImageDraw.Draw(picture)
    for place, thing in enumerate(scene.things):
        _draw_thing(pen, thing, *_place(scene, place, source), source)
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BOX))


def draw_scenes(count: int, seed: int, alone: float = 0.2) -> tuple[Tensor, Tensor]:
    """Return pictures, bytes (N, 3, 64, 64), and the numbers of their scenes; a share of things that are alone."""
    source = random.Random(seed)
    kinds = [[i for i, scene in enumerate(SCENES) if (scene.layout == "alone") == single] for single in (False, True)]
    chosen = [source.choice(kinds[source.random() < alone]) for _ in range(count)]
    pictures = np.stack([draw_scene(SCENES[i], source) for i in chosen])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.tensor(chosen)


def draw_many(count: int, seed: int, workers: int, chunk: int = 1000) -> tuple[Tensor, Tensor]:
    """Return what `draw_scenes` does, drawn by several processes; the same for any number of them."""
    jobs = [(min(chunk, count - first), 1_000_000 * (seed + 1) + first) for first in range(0, count, chunk)]
    # New processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pictures, labels = zip(*pool.map(draw_scenes, *zip(*jobs, strict=True)), strict=True)
    return torch.cat(pictures), torch.cat(labels)


def _place(scene: Scene, place: int, source: random.Random) -> tuple[float, Point]:
    """Return radius and centre of a thing, in pixels."""
    if scene.layout == "alone":
        return source.uniform(14, 21), (source.uniform(24, 40), source.uniform(24, 40))
    radius, across = source.uniform(12, 14.5), source.uniform(24, 40)
    along = source.uniform(radius + 2, 32 - radius) + 30 * place
    return radius, (across, along) if scene.layout == "above" else (along, across)


def _draw_thing(pen: ImageDraw.ImageDraw, thing: Thing, radius: float, centre: Point, source: random.Random) -> None:
    hue = (HUES[thing.colour] + source.uniform(-0.012, 0.012)) % 1
    fill = _bytes(colorsys.hsv_to_rgb(hue, source.uniform(0.75, 0.95), source.uniform(0.86, 0.98)))
    turn = math.radians(source.uniform(-15, 15))
    corners = [_turned(point, turn, radius, centre) for point in OUTLINES[thing.shape]]
    pen.polygon([(FINER * x, FINER * y) for x, y in corners], fill=fill)


def _turned(point: Point, turn: float, radius: float, centre: Point) -> Point:
    x, y = point
    cos, sin = radius * math.cos(turn), radius * math.sin(turn)
    return centre[0] + cos * x - sin * y, centre[1] + sin * x + cos * y


def _bytes(colour: tuple[float, float, float]) -> tuple[int, ...]:
    return tuple(round(255 * part) for part in colour)


def _around(count: int, *radii: float) -> list[Point]:
    """Return points around the centre, the first above it, at these distances in turn."""
    angles = [2 * math.pi * i / count for i in range(count)]
    return [(radii[i % len(radii)] * math.sin(a), -radii[i % len(radii)] * math.cos(a)) for i, a in enumerate(angles)]


def _heart(count: int = 60) -> list[Point]:
    angles = [2 * math.pi * i / count for i in range(count)]
    return [
        (
            16 * math.sin(a) ** 3 / 16,
            -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) / 16,
        )
        for a in angles
    ]


OUTLINES: dict[str, list[Point]] = {
    "circle": _around(60, 0.92),
    "square": [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)],
    "triangle": _around(3, 1.1),
    "star": _around(10, 1.1, 0.45),
    "heart": _heart(),
}
