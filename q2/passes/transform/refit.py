"""Fits quantized layers again, one after the other, to what the layers before them make of full precision's inputs."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from q2.denoisers import Ask, Denoiser
from q2.errors import Q2Error
from q2.graph import Graph, WeightLayer
from q2.graph.lockstep import Lockstep, ModelCall, Pair
from q2.graph.sharing import readers
from q2.passes.analysis.units import UNITS
from q2.passes.base import Change, PassContext, TextTable, at_layer
from q2.passes.transform.apply import exact_weight
from q2.passes.transform.exact import at_full_precision, quantized_layers, simulated
from q2.quant import Part, switch_layer
from q2.quant.calibration.asymmetric import Asymmetric
from q2.quant.calibration.fit import Refitted, refit_outputs
from q2.quant.calibration.unfolding import Unfolding
from q2.quant.simulated import Simulated

if TYPE_CHECKING:
    from q2.passes.transform.calibrate import Calibrate

__all__ = ["refit", "take_back"]

_GIB = 1 << 30


def refit(graph: Graph, wanted: "Calibrate", ctx: PassContext) -> Change:
    """Fit every quantized layer of `graph` again; see `Calibrate`. Raises `Q2Error` if no layer is quantized."""
    denoiser = ctx.need_denoiser("calibrate")
    quantized = quantized_layers(graph)
    if not quantized:
        raise Q2Error("no layer is quantized")
    with at_full_precision(graph, ctx):
        calls = _calls(denoiser, wanted)
    inside = _inside(graph, quantized)
    lockstep = Lockstep(
        graph, calls, lambda name: {key: exact_weight(quantized[each], ctx) for each, key in inside.get(name, ())}
    )
    most = max(1, int(wanted.memory * _GIB / max(1, 2 * lockstep.peak_bytes())))
    found = len(lockstep.calls)
    lockstep.calls = [lockstep.calls[i * found // most] for i in range(most)] if most < found else lockstep.calls
    work = _Refit(graph, wanted, ctx, quantized)
    lockstep.run(work.visit, ctx.progress)
    return work.report(len(lockstep.calls), found)


@dataclass(frozen=True)
class _Done:
    """A part that was fitted again: output errors before and now, as `signal` has them."""

    type: str
    option: str
    before: float
    after: float
    signal: float

    @property
    def ratio_before(self) -> float:
        """Signal to the error that was there, in dB."""
        return _ratio(self.signal, self.before)

    @property
    def ratio(self) -> float:
        """Signal to the error that is left, in dB."""
        return _ratio(self.signal, self.after)


@dataclass(eq=False)
class _Refit:
    """Fits a layer when its inputs are known; layers with the same input share its moments."""

    graph: Graph
    wanted: "Calibrate"
    ctx: PassContext
    quantized: Mapping[str, WeightLayer]
    done: dict[str, _Done] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._readers = readers(self.graph)
        self._choices = {(each.layer.name, each.channels): each for each in self.graph.choices.values()}
        self._last: tuple[object, dict[object, Asymmetric]] = None, {}

    @torch.no_grad()
    def visit(self, name: str, inputs: Sequence[Pair]) -> None:
        """Fit a layer's parts again, if it is quantized, and put the result in place."""
        if name not in self.quantized:
            return
        with at_layer(name):
            module = simulated(self.quantized[name])
            exact = exact_weight(self.quantized[name], self.ctx)
            unfolding = Unfolding.of(module)
            key = self._readers[name], unfolding
            if self._last[0] != key:
                self._last = key, {}
            rows = _Rows(inputs, unfolding, self.wanted, name)
            parts = [self._part(name, module, part, exact, rows) for part in module.parts]
            switch_layer(module, parts, exact)

    def _part(self, name: str, module: Simulated, part: Part, exact: Tensor, rows: "_Rows") -> Part:
        if part.option.is_none or part.fitted is None:
            return part
        weight = part.of(exact).contiguous()
        known, key = self._last[1], (part.channels, weight.shape[1:])
        if key not in known:
            known[key] = Asymmetric.of(rows, weight.shape, part.channels)
        problem = known[key].problem(weight)
        held: Any = module.weight
        fitted, before, after = refit_outputs(weight, part.fitted, part.of(held.detach()).contiguous(), problem)
        choice = self._choices.get((name, part.channels))
        kind = self.graph.weight_layers[name].type
        self.done[choice.name if choice else name] = _Done(kind, str(part.option), before, after, problem.signal)
        return dataclasses.replace(part, fitted=fitted)

    def report(self, calls: int, found: int) -> Change:
        """Report the gain: the SQNR of the layers' outputs, before and now."""
        groups: dict[tuple[str, str], list[_Done]] = {}
        for each in self.done.values():
            groups.setdefault((each.type, each.option), []).append(each)
        heads = ("type", "option", "layers", "outputs' SQNR dB before", "now")
        lines = tuple(
            (kind, option, len(group), fmean(each.ratio_before for each in group), fmean(each.ratio for each in group))
            for (kind, option), group in sorted(groups.items())
        )
        layers = {name: dataclasses.asdict(each) for name, each in self.done.items()}
        data = {"changed": len(layers), "calls": calls, "drawn": found, "layers": layers}
        summary = f"{len(layers)} fits made again, from {calls} of {found} denoising steps' calls"
        names = tuple(name for name, layer in self.quantized.items() if _is_refitted(layer))
        left = len(self.quantized) - len(names)
        summary += f"; {left} layers inside others stay as they were" if left else ""
        return Change(summary, (TextTable(heads, lines),), data, names, preserves=frozenset({UNITS}))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of a layer's input in every call, at full precision and now; taken anew whenever they are gone through."""

    inputs: Sequence[Pair]
    unfolding: Unfolding
    wanted: "Calibrate"
    layer: str

    def __iter__(self) -> Iterator[Pair]:
        """Yield rows (N, inputs) of one call after the other, the same positions of both."""
        share = max(1, self.wanted.rows // len(self.inputs))
        for number, (exact, current) in enumerate(self.inputs):
            now = current if self.wanted.sequential else exact
            digest = sha256(f"{self.wanted.seed} {number} {self.layer}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            chosen = torch.randperm(self.unfolding.count(now), generator=generator)[:share].sort().values
            mine = self.unfolding.take(now, chosen)
            yield (mine if exact is now else self.unfolding.take(exact, chosen)), mine


def take_back(graph: Graph, ctx: PassContext) -> None:
    """Give every layer that was fitted again the fit that it had before."""
    for layer in quantized_layers(graph).values():
        if _is_refitted(layer):
            module = simulated(layer)
            parts = [
                dataclasses.replace(part, fitted=part.fitted.before) if isinstance(part.fitted, Refitted) else part
                for part in module.parts
            ]
            switch_layer(module, parts, exact_weight(layer, ctx))


def _is_refitted(layer: WeightLayer) -> bool:
    return any(isinstance(part.fitted, Refitted) for part in simulated(layer).parts)


def _ratio(signal: float, error: float) -> float:
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 else math.inf


def _inside(graph: Graph, names: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return for every module that is a node the layers among `names` that it is or holds, and their weights' names."""
    targets = dict.fromkeys(str(node.target) for node in graph.fx.nodes if node.op == "call_module")
    found: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        for target in targets:
            if f"{name}.".startswith(f"{target}."):
                found.setdefault(target, []).append((name, f"{name}.weight".removeprefix(f"{target}.")))
    return found


def _calls(denoiser: Denoiser, wanted: "Calibrate") -> list[ModelCall]:
    """Return the arguments of every call of the model while images are denoised; one that comes again is kept once."""
    calls: list[ModelCall] = []
    kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def copied(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        key = id(value), value._version
        if key not in kept:
            kept[key] = value, value.detach().clone()
        return kept[key][1]

    def watch(_: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        calls.append(tree_map(copied, (args, dict(kwargs))))

    ask = Ask(prompts=wanted.prompts)
    denoiser.check(ask)
    handle = denoiser.model.register_forward_pre_hook(watch, with_kwargs=True)
    try:
        for first in range(0, wanted.images, wanted.batch):
            count = min(wanted.batch, wanted.images - first)
            steps = wanted.steps or None
            denoiser.generate(count, first=first, seed=wanted.seed, steps=steps, batch=count, ask=ask)
            kept.clear()
    finally:
        handle.remove()
    return calls
