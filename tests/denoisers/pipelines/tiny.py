"""Tiny pipelines with random weights, built from configs without a network: the table, and how one is added."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.denoisers.pipelines import parts
from tests.graph import zoo

__all__ = ["IMAGE", "LARGER", "PIPELINES", "VIDEO", "Tiny", "denoiser", "tiny"]

Build = Callable[[], Any]
IMAGE = {"height": 16, "width": 16}
LARGER = {"height": 32, "width": 32}
VIDEO = {"height": 16, "width": 16, "num_frames": 5}


@dataclass(frozen=True)
class Tiny:
    """How a pipeline is built, and what ``denoiser.arguments`` makes it quick; `component` if it is not the first."""

    build: Build
    arguments: Mapping[str, Any] = field(default_factory=dict)
    component: str = ""
    what: str = "text to image"

    def save(self, folder: Path) -> Path:
        """Write the pipeline."""
        parts.seeded(self.build).save_pretrained(folder)
        return folder


PIPELINES: dict[str, Tiny] = {}


def tiny(
    arguments: Mapping[str, Any] | None = None, *, component: str = "", what: str = "text to image"
) -> Callable[[Build], Build]:
    """Add what a function builds, by the name of its pipeline's class, which is the function's."""

    def add(build: Build) -> Build:
        PIPELINES[build.__name__] = Tiny(build, dict(arguments or {}), component, what)
        return build

    return add


def denoiser(kind: str, **more: Any) -> Any:
    """Return a model of the tiny zoo, some arguments changed, with weights that are not zero."""
    return zoo.build(kind, more=more)
