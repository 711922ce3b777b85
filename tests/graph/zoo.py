"""Every denoiser class of diffusers, tiny: its config from zoo.toml, its inputs, and what a trace of it gives."""

import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models import transformers, unets
from torch import nn
from torch.utils import _pytree as pytree

from q2.denoisers.inputs.derive import example_inputs
from q2.errors import TraceError
from q2.graph import trace
from tests.graph.zoo_inputs import GIVEN

ZOO: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("zoo.toml").read_text("utf-8"))
LEFT_OUT = {
    "DualTransformer2DModel": "a part of U-Nets, no model of its own",
    "MotionAdapter": "weights for `UNetMotionModel`, without a forward",
    "MiniMaxMusic3RVQDepthDecoder": "predicts audio tokens one after another; nothing is denoised",
}
SIZES = {
    "AceStepTransformer1DModel": 12,
    "LTX2VideoTransformer3DModel": 4,
    "LTXVideoTransformer3DModel": 4,
    "LongCatAudioDiTTransformer": 12,
    "MiniMaxMusic3Transformer1DModel": 9,
    "NucleusMoEImageTransformer2DModel": 4,
    "SanaWMLTX2RefinerTransformer3DModel": 4,
    "StableAudio3DiTModel": 12,
    "StableAudioDiTModel": 12,
    "T5FilmDecoder": 12,
    "UNet1DModel": 16,
}
BATCHES = (2, 3)


@dataclass(frozen=True)
class Result:
    """What became of one class: `failure` is empty where outputs equal eager at both batch sizes.

    `unit_layers` are the weight layers that its units hold.
    """

    name: str
    derived: bool
    nodes: int = 0
    layers: int = 0
    seconds: float = 0.0
    variants: int = 0
    largest: float = 0.0
    failure: str = ""
    unit_layers: int = 0


def exported() -> list[str]:
    """Return the name of every model class that diffusers exports as a transformer or a U-Net."""
    found = {
        name
        for module in (transformers, unets)
        for name in dir(module)
        if isinstance(value := getattr(module, name), type) and issubclass(value, nn.Module)
    }
    return sorted(found)


def build(name: str, device: str = "cpu", more: Mapping[str, Any] | None = None) -> nn.Module:
    """Make the tiny model, with `more` arguments, and seeded weights, none of them zero."""
    kind: Any = getattr(transformers, name, None) or getattr(unets, name)
    with torch.device(device), torch.random.fork_rng(devices=[]):
        model = kind(**{**ZOO[name], **(more or {})})
    if device != "meta":
        _fill(model)
    return cast("nn.Module", model.eval().requires_grad_(False))


def _fill(model: nn.Module) -> None:
    """Give every weight noise that keeps activations near 1; diffusers sets some to zero, and outputs with them."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim < 2:
            weight.data.copy_(0.2 * noise + (1.0 if bool((weight == 1).all()) else 0.0))
        else:
            weight.data.copy_(noise * (len(weight) / max(1, weight.numel())) ** 0.5)


def inputs(name: str, model: nn.Module, batch: int) -> dict[str, Any]:
    """Return inputs for a batch: derived, or given where the config does not tell them."""
    if name in GIVEN:
        return GIVEN[name](model, batch)
    return example_inputs(model, batch, size=SIZES.get(name, 8))


def run(name: str) -> Result:
    """Trace one class and compare with eager at two batch sizes."""
    model, derived = build(name), name not in GIVEN
    start = time.perf_counter()
    try:
        graph = trace(model, inputs(name, model, BATCHES[0]))
        seconds = time.perf_counter() - start
        for batch in BATCHES:
            graph.verify(inputs(name, model, batch))
    except TraceError as error:
        return Result(name, derived, failure=str(error))
    with torch.no_grad():
        outputs = pytree.tree_leaves(graph(**inputs(name, model, BATCHES[0]), **_flat(model)))
    largest = min(float(output.abs().max()) for output in outputs if isinstance(output, torch.Tensor))
    flow = graph.flow()
    held = {flow.nodes[node]["layer"] for unit in graph.units() for node in unit.layers}
    return Result(
        name,
        derived,
        len(graph.fx.nodes),
        len(graph.weight_layers),
        seconds,
        graph.variants,
        largest,
        unit_layers=len(held.intersection(graph.weight_layers)),
    )


def _flat(model: nn.Module) -> dict[str, bool]:
    return {"return_dict": False} if "return_dict" in model.forward.__code__.co_varnames else {}
