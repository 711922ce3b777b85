"""What every run writes beside its results: settings, and a manifest of versions, plugins and machine."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from importlib.metadata import version as version_of
from pathlib import Path

import torch

from q2.denoisers import Denoiser
from q2.errors import Q2Error, why
from q2.graph import Graph
from q2.models.model import Model
from q2.passes import PassContext
from q2.passes.analysis.size import SIZES, Size
from q2.quant import Option, Recipe
from q2.session.drift import ratios_of
from q2.session.folder import RunOf
from q2.session.session import Session
from q2.version import version

__all__ = ["manifest", "recipe_of", "writing"]


@contextmanager
def writing(place: Path, option: str = "") -> Iterator[None]:
    """Turn what the operating system says while files are written into one line. Raises `Q2Error`."""
    try:
        yield
    except OSError as error:
        name = f"{option} {place}" if option else str(place)
        raise Q2Error(f"{name}: cannot be written: {why(error)}") from error


def manifest(session: Session, denoiser: Denoiser | Model, kind: str) -> dict[str, object]:
    """Return whose folder it is, and what made a run of a kind: versions, plugins, seed, machine."""
    packages = ("torch", "diffusers", "numpy", "numba", "safetensors")
    return {
        "run": RunOf.of(session, kind).table(),
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "config": session.run.name,
        "seed": session.settings.seed,
        "versions": {"python": platform.python_version(), "q2": version()}
        | {name: version_of(name) for name in packages},
        "plugins": [asdict(info) for info in session.plugins.infos],
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(denoiser.device),
        },
    }


def recipe_of(graph: Graph, ctx: PassContext) -> Recipe:
    """Return the recipe currently applied to the graph."""
    if SIZES not in graph.facts:
        Size().run(graph, ctx)
    sizes = graph.facts.get(SIZES)
    bits = sum(size.bits for size in sizes.values()) / sum(size.weights for size in sizes.values())
    layers = {name: Option.parse(size.option) for name, size in sizes.items()}
    denoiser = ctx.need_denoiser("a recipe")
    calibration = ctx.bank.plan.calibration if ctx.bank else ""
    return Recipe(layers, denoiser.label, denoiser.fingerprint, bits, calibration, ratios_of(graph))
