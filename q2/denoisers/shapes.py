"""The world of the embedded denoiser scenes-sd3: one or two coloured shapes, and a caption for each such scene."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

__all__ = ["COLOURS", "LAYOUTS", "SCENES", "SHAPES", "Scene", "Thing"]

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star", "heart")
LAYOUTS = ("alone", "above", "left of")
"""How the first thing stands to the second; alone where there is none."""


@dataclass(frozen=True)
class Thing:
    """A shape of one colour.

    >>> str(Thing("orange", "star"))
    'an orange star'
    """

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{'an' if self.colour[0] in 'aeiou' else 'a'} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One thing alone, or two that differ in colour and shape.

    >>> str(Scene("above", (Thing("red", "circle"), Thing("blue", "square"))))
    'a red circle above a blue square'
    """

    layout: str
    things: tuple[Thing, ...]

    def __str__(self) -> str:
        return f" {self.layout} ".join(map(str, self.things))


def _scenes() -> Iterator[Scene]:
    things = [Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES)]
    yield from (Scene("alone", (thing,)) for thing in things)
    for layout, first, second in product(LAYOUTS[1:], things, things):
        if first.colour != second.colour and first.shape != second.shape:
            yield Scene(layout, (first, second))


def _mixed() -> tuple[Scene, ...]:
    scenes = list(_scenes())
    random.Random(0).shuffle(scenes)  # noqa: S311  # an order, not a secret
    return tuple(scenes)


SCENES = _mixed()
"""All 1,230 scenes, in a fixed mixed order: the first hundred show every colour and shape."""
