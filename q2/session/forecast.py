"""What a quantized denoiser will take, before there is one: bytes, BOPs, memory while images are drawn, time, disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from q2.denoisers import Denoiser
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.family import built, known
from q2.errors import ConfigError
from q2.graph import Graph
from q2.graph.memory import peak_bytes
from q2.passes import PassContext, PassManager, PassResult, Step, TextTable, is_transform
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.size import Size
from q2.quant import Option, Recipe
from q2.quant.bank import Bank
from q2.quant.kinds import QUANTIZERS
from q2.search.building.variants import knapsack_of, put_together, single_choices
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.session.bank import bank_folder, check_bank
from q2.session.hardware import Gpu
from q2.session.plan import Plan, passes_of_image, speed_here
from q2.session.report import recipe_of
from q2.session.session import Session

__all__ = ["Forecast", "forecast"]

_GIB = 2**30
_ROWS, _COLUMNS = 64, 1024
_TIMES: Mapping[int, tuple[float, float]] = {1: (8.5, 17), 8: (2.5, 5.8), 32: (1.6, 3.0)}
"""How many times their bound the embedded denoisers take on a CPU, by images at a time: `benchmarks.plan`."""
_ON_A_GPU = 2.7, 4.5
"""The same of SDXL and PixArt-α on an H100, for 1 to 8 images: `benchmarks.packed_gpu`, docs/plan.md."""
_AUTOENCODER: Mapping[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}
"""The published autoencoder of Stable Diffusion, with 4 channels, and of SD3 and Flux, with 16."""


@dataclass(frozen=True)
class Forecast:
    """A plan with a line for each thing, and the recipe that it is for; numbers in bytes and seconds."""

    plan: Plan
    recipe: Recipe
    memory: Mapping[str, float]
    seconds: float

    def __repr__(self) -> str:
        return repr(self.plan)

    def _repr_html_(self) -> str:
        return self.plan._repr_html_()


def forecast(session: Session, *, avg_bits: float | None = None, gpu: Gpu | None = None, images: int = 1) -> Forecast:
    """Say what a session's denoiser takes at its run file's options, or at the best ones within `avg_bits`.

    Everything is worked out on meta, for `images` drawn at a time. Time is a lower bound: that of `gpu` by its data
    sheet, else of this machine by a product of matrices. Raises `ConfigError`: a budget that cannot be met.
    """
    if images < 1:
        raise ConfigError(f"images: expected at least 1, not {images}")
    source = "the run file's options"
    if avg_bits is not None:
        layers, source = _within(session, avg_bits)
        session = session.with_recipe(layers)
    graph, ctx, results = _applied(session)
    recipe, denoiser = recipe_of(graph, ctx), session.shapes
    data = {result.title: result.report.data for result in results}
    held = _held(graph, denoiser, float(str(data["size"]["bytes"])))
    memory = _memory(graph, denoiser, recipe, images) | {"weights": held}
    steps, passes = denoiser.protocol.steps, passes_of_image(denoiser)
    seconds = steps * _step(session, graph, held, images * passes, gpu)
    count = f"{len(graph.weight_layers)} weight layers, {graph.macs / 1e9:.4g} GMACs a call"
    lines = [
        Step("denoiser", 0, f"{denoiser.label}: {count}"),
        Step("recipe", 0, f"{recipe.avg_bits:.3f} bits a weight, by {source}", (_options(graph, recipe),)),
        *(Step(result.title, 0, result.report.summary) for result in results),
        Step("memory", 0, _memory_line(memory, images, gpu)),
        Step("time", 0, _time_line(seconds, steps, images, gpu)),
        Step("disk", 0, f"at most {held / 1e6:.1f} MB for the denoiser; other parts of the pipeline as they are"),
    ]
    return Forecast(Plan(tuple(lines)), recipe, memory, seconds)


def _within(session: Session, avg_bits: float) -> tuple[Mapping[str, str], str]:
    """Return the options with the least error within a budget, and by what errors: a bank's, else a prior's."""
    folder, space = bank_folder(session), session.space
    plan = check_bank(session, folder)
    bank = None
    if plan and set(space.options) <= {*plan.options, "none"}:
        bank = Bank.open(folder, lambda name: session.plugins.of(QUANTIZERS).load(name)())
    costs = Costs.of_graph(session.outline, space, session.fork("meta").context(), bank).finite()
    if bank:
        errors, source = costs.tables[costs.error], f"the errors in {folder}"
    else:
        errors, source = _prior(session), "a prior: every layer's relative error counts alike, as for Gaussian weights"
        costs = replace(costs, tables={**costs.tables, "prior": errors}, constants={**costs.constants, "prior": 0.0})
    variants = single_choices(space, -errors)
    built = knapsack_of(costs, variants).solve([Constraint("avg_bits", "<=", avg_bits)])
    return space.decode(put_together(space, variants, built)), source


def _prior(session: Session) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the mean squared error of every option (choices, options), relative to the weight's mean square."""
    weight = torch.from_numpy(np.random.default_rng(0).normal(size=(_ROWS, _COLUMNS)).astype(np.float32))
    total = float(weight.double().square().sum())
    row = []
    for text in session.space.options:
        option = Option.parse(text)
        quantizer = session.plugins.of(QUANTIZERS).load(option.quantizer)()
        fitted = None if option.is_none else quantizer.fit(weight, option.bits, session.settings.prec)
        row.append(fitted.quantized_error / total if fitted else 0.0)
    return np.tile(np.array(row), (len(session.space), 1))


def _applied(session: Session) -> tuple[Graph, PassContext, list[PassResult]]:
    """Run the transforms that need no weights on meta; return the graph and what `size` and `bops` say of it."""
    session = session.fork("meta")
    ctx = session.context()
    wanted = (Size(), Bops())
    passes = [(title, step) for title, step in session.passes if not session.needs_weights(step)]
    passes = [(title, step) for title, step in passes if is_transform(step)]
    manager = PassManager([*passes, *((step.name, step) for step in wanted)], ctx)
    with session.at():
        manager.check(session.graph)
        results = manager.run(session.graph)
    return session.graph, ctx, [result for result in results if result.title in {step.name for step in wanted}]


def _held(graph: Graph, denoiser: Denoiser, packed: float) -> float:
    """Return the bytes of all tensors: packed weights, and biases, norms and embeddings in the denoiser's dtype."""
    weights = sum(choice.weights for choice in graph.choices.values())
    every = sum(tensor.numel() for tensor in denoiser.model.state_dict().values())
    return packed + float((every - weights) * denoiser.dtype.itemsize)


def _memory(graph: Graph, denoiser: Denoiser, recipe: Recipe, images: int) -> dict[str, float]:
    """Return bytes of activations, of the largest weight while it is decoded, and of the autoencoder's decoding."""
    inputs = denoiser.example_inputs(images * passes_of_image(denoiser))
    found = {"activations": float(peak_bytes(lambda: denoiser.model(**inputs)))}
    quantized = [graph.choices[name].layer for name, option in recipe.layers.items() if not option.is_none]
    found["decoded weight"] = float(max((layer.weights for layer in quantized), default=0) * denoiser.dtype.itemsize)
    latents = next((value for value in inputs.values() if isinstance(value, Tensor) and value.ndim == 4), None)
    if latents is not None and latents.shape[1] in (4, 16) and latents.is_floating_point():
        found["autoencoder"] = _decoding(denoiser, latents[:images])
    return found


def _decoding(denoiser: Denoiser, latents: Tensor) -> float:
    """Return the bytes of the checkpoint's autoencoder, else the published, and of what it holds while it decodes."""
    from diffusers import AutoencoderKL

    where, config = denoiser.given or denoiser.default_checkpoint(), _AUTOENCODER
    if where and Path(where).is_dir():
        config = Checkpoint(where).config("vae")
    table = {"latent_channels": latents.shape[1], **known(AutoencoderKL, config)}
    model: Any = built(AutoencoderKL, table, denoiser)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    return float(weights + peak_bytes(lambda: model.decode(latents)))


def _step(session: Session, graph: Graph, held: float, calls: int, gpu: Gpu | None) -> float:
    """Return the least seconds of one denoising step: products, and on a GPU reading the weights."""
    macs = float(calls * graph.macs)
    if gpu is not None:
        return gpu.seconds(macs, held)
    seconds: float = macs / speed_here(session)
    return seconds


def _options(graph: Graph, recipe: Recipe) -> TextTable:
    groups: dict[str, list[str]] = {}
    for name, option in recipe.layers.items():
        groups.setdefault(str(option), []).append(name)
    weights = {name: choice.weights for name, choice in graph.choices.items()}
    rows = tuple(
        (option, len(names), f"{sum(weights[name] for name in names) / 1e6:.3f} M")
        for option, names in sorted(groups.items())
    )
    return TextTable(("option", "layers", "weights"), rows)


def _memory_line(memory: Mapping[str, float], images: int, gpu: Gpu | None) -> str:
    drawing = memory["weights"] + memory["activations"] + memory["decoded weight"]
    peak = max(drawing, memory["weights"] + memory.get("autoencoder", 0.0))
    words = [f"{name} {_size(memory[name])}" for name in ("weights", "activations", "decoded weight")]
    more = f"; the autoencoder decodes in {_size(memory['autoencoder'])}" if "autoencoder" in memory else ""
    room = f" of {_size(gpu.memory)} ({gpu.name})" if gpu else ""
    plural = "" if images == 1 else "s"
    parts = f"{' + '.join(words)}{more}"
    return f"≈ {_size(peak)}{room} for {images} image{plural} at a time, text encoders aside: {parts}"


def _size(count: float) -> str:
    """Return bytes as people read them.

    >>> _size(0), _size(5 * 2**20), _size(24 * 2**30)
    ('0 MiB', '5 MiB', '24 GiB')
    """
    return f"{count / _GIB:.3g} GiB" if count >= _GIB else f"{count / 2**20:.3g} MiB"


def _time_line(seconds: float, steps: int, images: int, gpu: Gpu | None) -> str:
    where = f"{gpu.name}, by its data sheet" if gpu else "this machine, by a product of matrices"
    if gpu is not None:
        least, most = _ON_A_GPU
        where += f"; on an H100 whole steps took {least:g} to {most:g} times that"
    else:
        least, most = _TIMES[max((count for count in _TIMES if count <= images), default=1)]
        where += f"; the embedded denoisers take {least:g} to {most:g} times that"
    plural = "" if images == 1 else "s"
    return f"≥ {seconds:.3g} s for {steps} denoising steps of {images} image{plural} ({where})"
