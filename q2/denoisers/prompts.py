"""What a denoiser is asked to draw, in place of its own prompts or classes in turn."""

from dataclasses import dataclass
from typing import Any

__all__ = ["PROMPTS", "Ask"]

PROMPTS = (
    "a red fox asleep in fresh snow, soft morning light",
    "a bowl of ramen on a wooden table, steam rising",
    "an old lighthouse in a storm, waves crashing, oil painting",
    "a street market in Marrakesh, colourful spices",
    "portrait of an astronaut with a sunflower",
    "a steam train crossing a stone viaduct in autumn",
    "a glass chess set on a marble table, close-up",
    "a watercolour of a hummingbird beside a hibiscus",
    "a cosy bookshop on a rainy evening",
    "two children flying a kite on a wide beach",
)
"""The default prompts, taken in turn."""


@dataclass(frozen=True)
class Ask:
    """Prompts or class ids, taken in turn; the images' side in pixels; the guidance scale. None: as the denoiser does.

    >>> Ask(classes=(3, 5)).turn((3, 5), range(4))
    [3, 5, 3, 5]
    """

    prompts: tuple[str, ...] = ()
    classes: tuple[int, ...] = ()
    size: int | None = None
    guidance: float | None = None

    def turn(self, things: tuple[Any, ...], images: range) -> list[Any]:
        """Return the prompt or class of every image."""
        return [things[i % len(things)] for i in images]
