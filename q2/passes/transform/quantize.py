"""Mixed-precision weight quantization: an option for every weight layer, by type, name, regex or recipe."""

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from torch import Tensor, nn

from q2.config import Key, Table, validate
from q2.errors import ConfigError, OptionError, Q2Error, did_you_mean
from q2.graph import Graph, WeightLayer
from q2.passes.base import Change, PassContext, TextTable, TransformPass, at_layer, weight_of
from q2.quant import Option, Recipe, option_of, plan_layer, quantize_layer

__all__ = ["Quantize", "Rule"]


@dataclass(frozen=True)
class RuleConfig:
    """A quantizer and its width, as a run file spells them in ``[passes.quantize.<what>.config]``."""

    name: str
    weight_width: int | None = None
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __str__(self) -> str:
        return self.name if self.weight_width is None else f"{self.name}-{self.weight_width}"


@dataclass(frozen=True)
class Rule:
    """What the layers that a rule matches become. An option as text, ``"kmeans-c-4"``, is the short form."""

    config: RuleConfig
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}


@dataclass(frozen=True)
class Quantize(TransformPass):
    """Quantize weight layers, each as the first rule that matches it says; biases and norms stay.

    Rules match by ``type`` (linear, conv2d, …), ``name`` or ``regex`` (searched for), or come from a ``recipe``.
    A layer that no rule matches gets `default`. A quantized layer keeps its option: it has no full-precision weight to
    start from. Weights on meta have no values to fit: there the options are planned, and sizes and BOPs follow.
    """

    name: ClassVar[str] = "quantize"
    by: Literal["type", "name", "regex", "recipe"] = "type"
    recipe: Path | None = None
    default: Rule = Rule(RuleConfig("none"))
    rules: Mapping[str, Rule] = field(default_factory=dict)

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Read the options; every other key is a rule: a table with ``config``, or an option as text."""
        own = {entry.name for entry in dataclasses.fields(cls)} - {"rules"}
        options = {key: value for key, value in table.items() if key in own}
        rules = {key: value for key, value in table.items() if key not in own}
        for key, value in rules.items():
            if not isinstance(value, str | dict):
                raise ConfigError(f"{where((key,))}: unknown key{did_you_mean(key, own)}")
        for key, value in (*rules.items(), ("default", options.get("default"))):
            if isinstance(value, str):
                (options if key == "default" else rules)[key] = _rule(value, where((key,)))
        return validate(cls, {**options, "rules": rules}, lambda key: where(key[1:] if key[:1] == ("rules",) else key))

    def to_table(self) -> Table:
        """Return the options as `from_table` reads them."""
        recipe = {"recipe": str(self.recipe)} if self.recipe else {}
        rules = {"default": self.default, **self.rules}
        return {"by": self.by, **recipe} | {key: str(rule.config) for key, rule in rules.items()}

    def check(self, graph: Graph, ctx: PassContext) -> None:
        """Raise `ConfigError` for a rule that matches no layer, `OptionError` for an option that does not exist."""
        self.plan(graph, ctx)

    def plan(self, graph: Graph, ctx: PassContext) -> dict[str, Option]:
        """Return the option of every weight layer, before anything is changed."""
        layers = graph.weight_layers
        plan = dict.fromkeys(layers, _option(self.default, "default", ctx))
        if self.by == "recipe":
            return plan | self._recipe(graph, ctx)
        if self.recipe:
            raise ConfigError(f"recipe is set, but by = {self.by!r}; say by = 'recipe'")
        taken: set[str] = set()
        for key, rule in self.rules.items():
            option = _option(rule, key, ctx)
            matched = list(self._matches(key, layers))
            plan |= {name: option for name in matched if name not in taken}
            taken.update(matched)
        return plan

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        """Swap in a simulated layer for every layer of the plan; biases are shared, not copied."""
        plan = {name: option for name, option in self.plan(graph, ctx).items() if not option.is_none}
        changed: dict[str, _Done] = {}
        for name in ctx.progress(plan, "quantize", len(plan)):
            with at_layer(name):
                changed |= _quantize(graph, name, plan[name], ctx)
        return _report(graph, changed)

    def _recipe(self, graph: Graph, ctx: PassContext) -> dict[str, Option]:
        if not self.recipe or self.rules:
            raise ConfigError("by = 'recipe' needs the key recipe = 'FILE' and no rules")
        recipe = Recipe.load(self.recipe)
        recipe.check(graph.weight_layers, ctx.denoiser.label if ctx.denoiser else recipe.denoiser)
        for name, option in recipe.layers.items():
            _option(Rule(RuleConfig(option.quantizer, None if option.is_none else option.bits)), name, ctx)
        return dict(recipe.layers)

    def _matches(self, key: str, layers: Mapping[str, WeightLayer]) -> Iterator[str]:
        if self.by == "regex":
            try:
                pattern = re.compile(key)
            except re.error as error:
                raise ConfigError(f"{key!r} is no regular expression: {error}") from error
            found = [name for name in layers if pattern.search(name)]
            known = list(layers)
        elif self.by == "type":
            found = [name for name, layer in layers.items() if layer.type.lower() == key.lower()]
            known = sorted({layer.type.lower() for layer in layers.values()})
        else:
            found, known = [key] if key in layers else [], list(layers)
        if not found:
            kind = {"regex": "no layer matches", "type": "no layer has the type", "name": "no layer is named"}[self.by]
            options = [entry.name for entry in dataclasses.fields(self) if entry.name != "rules"]
            raise ConfigError(f"{kind} {key!r}{did_you_mean(key, known) or did_you_mean(key, options) or _some(known)}")
        yield from found


@dataclass(frozen=True)
class _Done:
    """What one layer became: its energy (Σ w²) and squared error make up the SQNR of a group; None without values."""

    type: str
    option: str
    weights: int
    bits: int
    energy: float | None
    squared_error: float | None
    quantized_error: float | None


def _quantize(graph: Graph, name: str, option: Option, ctx: PassContext) -> dict[str, _Done]:
    layer = graph.weight_layers[name]
    there, _ = option_of(layer.module)
    if there == option:
        return {}
    if not there.is_none:
        raise Q2Error(f"is {there} already and cannot become {option}; load the denoiser again")
    quantizer = ctx.plugins.quantizers.load(option.quantizer)()
    if _is_meta(layer.module):
        graph.replace(name, plan_layer(layer.module, option))
        bits = quantizer.size_bits(layer.shape, option.bits)
        return {name: _Done(layer.type, str(option), layer.weights, bits, None, None, None)}
    weight = weight_of(layer.module)
    fitted = quantizer.fit(weight, option.bits)
    energy = float(weight.double().square().sum())
    graph.replace(name, quantize_layer(layer.module, fitted))
    squared = fitted.mse * layer.weights
    return {name: _Done(layer.type, str(option), layer.weights, fitted.bits, energy, squared, fitted.quantized_error)}


def _report(graph: Graph, changed: Mapping[str, _Done]) -> Change:
    groups: dict[tuple[str, str], list[_Done]] = {}
    for done in changed.values():
        groups.setdefault((done.type, done.option), []).append(done)
    rows = tuple(
        (kind, option, len(g), _sum(g, "weights") / 1e6, _sum(g, "bits") / _sum(g, "weights"), _shown(_sqnr(g)))
        for (kind, option), g in sorted(groups.items())
    )
    layers = {
        name: {"option": d.option, "bits": d.bits, "sqnr_db": _sqnr([d]), "quantized_error": d.quantized_error}
        for name, d in changed.items()
    }
    table = TextTable(("type", "option", "layers", "M weights", "bits/weight", "SQNR dB"), rows)
    planned = any(done.energy is None for done in changed.values())
    summary = f"{len(changed)} of {len(graph.weight_layers)} weight layers"
    summary += ", planned: weights on meta have no values to fit" if planned else ""
    return Change(summary, (table,), {"changed": len(changed), "planned": planned, "layers": layers}, tuple(changed))


def _shown(ratio: float | None) -> str | float:
    return "–" if ratio is None else ratio


def _sum(group: list[_Done], key: str) -> float:
    return float(sum(getattr(done, key) for done in group))


def _sqnr(group: list[_Done]) -> float | None:
    if any(done.energy is None for done in group):
        return None
    error = _sum(group, "squared_error")
    return 10 * math.log10(_sum(group, "energy") / error) if error else math.inf


def _is_meta(module: nn.Module) -> bool:
    return isinstance(module.weight, Tensor) and module.weight.is_meta


def _option(rule: Rule, key: str, ctx: PassContext) -> Option:
    name, width = rule.config.name, rule.config.weight_width
    if name.lower() in ("none", "na"):
        return Option.parse("none")
    if name not in ctx.plugins.quantizers:
        raise OptionError(f"{key}: no quantizer named {name!r}{did_you_mean(name, ctx.plugins.quantizers)}")
    if width is None:
        raise OptionError(f"{key}: {name!r} needs weight_width, 1 to 8")
    return Option.parse(f"{name}-{width}")


def _rule(option: str, place: str) -> Table:
    name, _, width = option.rpartition("-")
    if name and width.isdigit():
        return {"config": {"name": name, "weight_width": int(width)}}
    if option.lower() in ("none", "na"):
        return {"config": {"name": option}}
    raise ConfigError(
        f"{place}: {option!r} is no option; expected a quantizer and a width, as in 'kmeans-c-4', or 'none'"
    )


def _some(known: list[str]) -> str:
    return f" (there are: {', '.join(known[:4])}{', …' if len(known) > 4 else ''})"
