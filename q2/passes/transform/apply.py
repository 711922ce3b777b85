"""Gives layers the options of a plan, in place; only layers whose options differ are changed."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from q2.errors import Q2Error
from q2.graph import Choice, Graph, WeightLayer
from q2.passes.base import PassContext, at_layer, weight_of
from q2.quant import Option, Part, parts_of, plan_layer, quantize_parts, switch_layer
from q2.quant.base import OutputErrors
from q2.quant.kinds import QUANTIZERS
from q2.quant.packed.layers import Packed
from q2.quant.simulated import Simulated

__all__ = ["Changed", "apply_options", "exact_weight"]

_NONE = Option.parse("none")


@dataclass(frozen=True)
class Changed:
    """The result for one choice. Energy (Σ w²) and squared error give the SQNR of a group; None without values."""

    type: str
    option: str
    weights: int
    bits: int
    energy: float | None
    squared_error: float | None
    quantized_error: float | None
    outputs: OutputErrors | None = None


def apply_options(graph: Graph, plan: Mapping[str, Option], ctx: PassContext) -> dict[str, Changed]:
    """Give the choices of `graph` the options of `plan`, and return the choices that were changed.

    A layer becomes a simulated one once, and is switched in place from then on: what differs is written again from its
    full-precision weight, which is read from the checkpoint, or kept where no file has it, as after a transform that
    changed it. Parameters come from the bank where it has the option, else they are fitted here. Choices outside the
    plan stay what they are.
    """
    layers: dict[str, list[Choice]] = {}
    for choice in graph.choices.values():
        layers.setdefault(choice.layer.name, []).append(choice)
    wanted = {graph.choices[name].layer.name for name in plan}
    todo = [name for name in layers if name in wanted]
    changed: dict[str, Changed] = {}
    for name in ctx.progress(todo, "quantize", len(todo)):
        with at_layer(name):
            changed |= _apply(graph, layers[name], plan, ctx)
    return changed


def _apply(graph: Graph, choices: list[Choice], plan: Mapping[str, Option], ctx: PassContext) -> dict[str, Changed]:
    layer = choices[0].layer
    there = {part.channels: part for part in parts_of(layer.module)}
    whole = there.get(None, Part(_NONE))
    parts: dict[str, Part] = {}
    for choice in choices:
        old = there.get(choice.channels) or Part(whole.option, None, choice.channels)
        option = plan.get(choice.name, old.option)
        parts[choice.name] = old if option == old.option else Part(option, None, choice.channels)
    moved = [choice for choice in choices if parts[choice.name] not in there.values()]
    if not moved or all(part.option.is_none for part in (*parts.values(), *there.values())):
        return {}
    module = layer.module
    if isinstance(module.weight, Tensor) and module.weight.is_meta:
        graph.replace(layer.name, plan_layer(module, list(parts.values())))
        return {choice.name: _changed(choice, parts[choice.name], None, ctx) for choice in moved}
    exact = exact_weight(layer, ctx)
    parts = {name: _fitted(name, part, exact, ctx) for name, part in parts.items()}
    if isinstance(module, Simulated):
        switch_layer(module, list(parts.values()), exact)
    else:
        keep = not _is_in_a_file(graph, layer.name, exact, ctx)
        graph.replace(layer.name, quantize_parts(module, list(parts.values()), exact, keep=keep))
    return {choice.name: _changed(choice, parts[choice.name], exact, ctx) for choice in moved}


def _is_in_a_file(graph: Graph, name: str, exact: Tensor, ctx: PassContext) -> bool:
    """Return whether the checkpoint has a layer's full-precision weight: not if a transform before has changed it."""
    if ctx.denoiser is None or ctx.denoiser.stored is None:
        return False
    if not graph.facts.transforms:
        return True
    stored = ctx.denoiser.exact_weight(name)
    return stored is not None and torch.equal(stored, exact)


def _fitted(name: str, part: Part, exact: Tensor, ctx: PassContext) -> Part:
    """Return the part with its parameters: it has them, or the bank does, or they are fitted."""
    if part.option.is_none or part.fitted:
        return part
    fitted = ctx.bank.fitted(name, part.option) if ctx.bank else None
    if fitted is None:
        quantizer = ctx.plugins.of(QUANTIZERS).load(part.option.quantizer)()
        fitted = quantizer.fit(part.of(exact), part.option.bits, ctx.prec).without_weight()
    return dataclasses.replace(part, fitted=fitted)


def exact_weight(layer: WeightLayer, ctx: PassContext) -> Tensor:
    """Return a layer's weight (O, I, ...) before any quantization. Raises `Q2Error` if it is no longer known."""
    module = layer.module
    if isinstance(module, Packed):
        raise Q2Error("is packed, its full-precision weight is gone; load the checkpoint that it was made of")
    if not isinstance(module, Simulated):
        return weight_of(module)
    stored = ctx.denoiser.exact_weight(layer.name) if ctx.denoiser and module.exact is None else module.exact
    if stored is None:
        raise Q2Error("is quantized already, and its full-precision weight is gone; load the denoiser again")
    return stored


def _changed(choice: Choice, part: Part, exact: Tensor | None, ctx: PassContext) -> Changed:
    """Sum up; the energy follows from error and SQNR, unless there is no error."""
    bits = ctx.plugins.of(QUANTIZERS).load(part.option.quantizer)().size_bits(choice.shape, part.option.bits, ctx.prec)
    facts = (choice.layer.type, str(part.option), choice.weights, bits)
    if exact is None:
        return Changed(*facts, None, None, None)
    squared = part.fitted.mse * choice.weights if part.fitted else 0.0
    if part.fitted is None or not squared:
        return Changed(*facts, float(part.of(exact).double().square().sum()), 0.0, 0.0)
    fitted = part.fitted
    return Changed(*facts, squared * 10 ** (fitted.sqnr_db / 10), squared, fitted.quantized_error, fitted.outputs)
