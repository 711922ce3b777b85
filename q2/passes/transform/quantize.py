"""Mixed-precision weight quantization: an option for every weight layer, by type, name, regex or recipe."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from q2.config import Key, Table, validate
from q2.errors import ConfigError, OptionError, RecipeError, did_you_mean, there_are
from q2.passes.analysis.units import UNITS
from q2.passes.base import Change, PassContext, TextTable, TransformPass
from q2.passes.transform.formats import FormatConfig, formatted_layers, is_format
from q2.passes.transform.rules import matching
from q2.quant import Option, Recipe
from q2.quant.kinds import QUANTIZERS
from q2.quant.resolve import known_option

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.passes.transform.apply import Changed
    from q2.plugins import Catalogue
    from q2.quant import Quantizer

__all__ = ["Quantize", "Rule"]

By = Literal["type", "name", "regex", "recipe"]


@dataclass(frozen=True)
class RuleConfig:
    """A quantizer and its width, as a run file spells them in ``[passes.quantize.<what>.config]``."""

    name: str
    weight_width: int | None = None
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __str__(self) -> str:
        return self.name if self.weight_width is None else str(Option(self.name, self.weight_width))


@dataclass(frozen=True)
class Rule:
    """What the layers that a rule matches become. An option as text, ``"kmeans-c-4"``, is the short form."""

    config: RuleConfig
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __str__(self) -> str:
        return str(self.config)


@dataclass(frozen=True)
class _Options:
    """The options as TOML has them, every rule a table."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    by: By = "type"
    recipe: Path | None = None
    calibration: str = ""
    default: Rule = Rule(RuleConfig("none"))
    rules: Mapping[str, Rule] = field(default_factory=dict)


@dataclass(frozen=True)
class Quantize(TransformPass):
    """Quantize weight layers, each as the first rule that matches it says; biases and norms stay.

    Rules match by ``type`` (linear, conv2d, …), ``name`` or ``regex`` (searched for), or come from a ``recipe``.
    A layer that reads a skip connection is quantized in two parts, which a rule tells apart as ``path`` and ``path#1``;
    by name, ``path`` means both. A layer that no rule matches gets `default`, and stays what it is if that is ``none``.
    A rule may name number formats for input, weight and bias, for any layer with parameters: see `FormatConfig`.
    Weights on meta have no values to fit: there the options are planned, and sizes and BOPs follow. A recipe, or
    `calibration`, may say to which rows of inputs the options were fitted: then the bank must be that one.
    """

    name: ClassVar[str] = "quantize"
    by: By = "type"
    """How rules match a layer: its `type` (`linear`, `conv2d`, …), its `name`, or a `regex` searched in the name;
    or `recipe`, which reads a recipe file."""
    recipe: Path | None = None
    """The recipe file, with `by = "recipe"`."""
    calibration: str = ""
    """Which calibration the bank must be of, for options that were fitted to outputs; a recipe file says its own."""
    default: Rule | FormatConfig | str = Rule(RuleConfig("none"))
    """The option of layers that no rule matches."""
    rules: Mapping[str, Rule | FormatConfig | str] = field(default_factory=dict)
    """Every further key is a rule: a type, name or expression, with its option; the first that matches a layer wins."""

    def __post_init__(self) -> None:
        """Read options that are given as text, as in ``Quantize(default="uaq-4")``. Raises `ConfigError`."""
        object.__setattr__(self, "default", _as_rule(self.default, "default"))
        object.__setattr__(self, "rules", {key: _as_rule(rule, key) for key, rule in self.rules.items()})

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Read the options; every other key is a rule: a table with ``config``, or an option as text.

        Raises `ConfigError`, naming the key, for values of another type.
        """
        own = {entry.name for entry in dataclasses.fields(cls)} - {"rules"}
        options = {key: value for key, value in table.items() if key in own}
        rules = {key: value for key, value in table.items() if key not in own}
        for key, value in rules.items():
            if not isinstance(value, str | dict):
                raise ConfigError(f"{where((key,))}: unknown key{did_you_mean(key, own)}")
        formats = _formats({**rules, "default": options.get("default")}, where)
        for key, value in (*rules.items(), ("default", options.get("default"))):
            if isinstance(value, str):
                (options if key == "default" else rules)[key] = _rule(value, where((key,)))
        plain = {key: rule for key, rule in rules.items() if key not in formats}
        options = {key: value for key, value in options.items() if key not in formats}
        read = validate(
            _Options, {**options, "rules": plain}, lambda key: where(key[1:] if key[:1] == ("rules",) else key)
        )
        all_rules = {key: formats.get(key) or read.rules[key] for key in rules}
        return cls(read.by, read.recipe, read.calibration, formats.get("default", read.default), all_rules)

    def to_table(self) -> Table:
        """Return the options as `from_table` reads them."""
        recipe = {"recipe": str(self.recipe)} if self.recipe else {}
        recipe |= {"calibration": self.calibration} if self.calibration else {}
        rules = {"default": self.default, **self.rules}
        return {"by": self.by, **recipe} | {key: _to_table(_as_rule(rule, key)) for key, rule in rules.items()}

    def check_options(self, quantizers: "Catalogue[Quantizer]") -> None:
        """Raise `Q2Error` for an unknown option; recipes are not read. Torch is not needed for q2's own options."""
        for key, rule in {**self.rules, "default": self.default}.items():
            if not isinstance(rule, FormatConfig):
                _option(rule, key, quantizers)

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for a rule that matches no layer, `OptionError` for an option that does not exist."""
        self.plan(graph, ctx)
        self.formats(graph)

    def formats(self, graph: "Graph") -> dict[str, FormatConfig]:
        """Return the number formats of every layer that is to have some, before anything is changed.

        Raises `ConfigError` for a rule that matches no layer.
        """
        if self.by == "recipe":
            return {}
        types = formatted_layers(graph)
        found: dict[str, Rule | FormatConfig | str] = {}
        for key, rule in self.rules.items():
            names = [name for name in types if name in graph.weight_layers or isinstance(rule, FormatConfig)]
            own = {name: types[name] for name in names}
            found = dict.fromkeys(_matching(self.by, key, own, rule), rule) | found
        wanted = {name: found.get(name, self.default) for name in types}
        return {name: rule for name, rule in wanted.items() if isinstance(rule, FormatConfig)}

    def plan(self, graph: "Graph", ctx: PassContext) -> dict[str, Option]:
        """Return the option of every choice that will be quantized, before anything is changed.

        A choice that no rule matches stays unchanged unless there is a `default`; a recipe sets all choices. Raises
        `ConfigError` for options that cannot be combined.
        """
        choices, default = graph.choices, Option.parse("none")
        if not isinstance(self.default, FormatConfig):
            default = _option(self.default, "default", ctx.plugins.of(QUANTIZERS))
        if self.by == "recipe":
            return dict.fromkeys(choices, default) | self._recipe(graph, ctx)
        if self.recipe:
            raise ConfigError(f"recipe is set, but by = {self.by!r}; say by = 'recipe'")
        types, formats = {name: choice.layer.type for name, choice in choices.items()}, self.formats(graph)
        chosen = self.choose(types, ctx.plugins.of(QUANTIZERS))
        return {name: option for name, option in chosen.items() if choices[name].layer.name not in formats}

    def choose(self, types: Mapping[str, str], quantizers: "Catalogue[Quantizer]") -> dict[str, Option]:
        """Return the options that the rules give layers of these types, by name; see `plan`."""
        rest = "none" if isinstance(self.default, FormatConfig) else self.default
        default = _option(rest, "default", quantizers)
        own = [entry.name for entry in dataclasses.fields(self) if entry.name != "rules"]
        found: dict[str, Option] = {}
        for key, rule in self.rules.items():
            if isinstance(rule, FormatConfig):
                continue
            option = _option(rule, key, quantizers)
            by = "type" if self.by == "recipe" else self.by  # a recipe has no rules
            found = dict.fromkeys(matching(by, key, types, options=own), option) | found
        return {name: found.get(name, default) for name in types if name in found or not default.is_none}

    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Swap in a simulated layer for every layer of the plan, or switch it in place; biases are shared, not copied.

        Parameters come from the bank where it has the option, else they are fitted here.
        """
        from q2.passes.transform.apply import apply_options

        if ctx.denoiser is None or ctx.denoiser.weights != "meta":
            self.check_calibration(ctx.bank.plan.calibration if ctx.bank else "")
        plan, formats = self.plan(graph, ctx), self.formats(graph)
        if not formats:
            return _report(graph, apply_options(graph, plan, ctx))
        from q2.passes.transform.apply_formats import apply_formats

        return apply_formats(graph, formats, _report(graph, apply_options(graph, plan, ctx)))

    @property
    def wants_calibration(self) -> str:
        """Which calibration its options are of, by its recipe; empty if none, or if that cannot be read."""
        if not self.recipe:
            return self.calibration
        try:
            return Recipe.load(self.recipe).calibration
        except RecipeError:
            return ""

    def check_calibration(self, found: str) -> None:
        """Raise `ConfigError` if options were calibrated and `found`, the calibration of the bank, is another."""
        wanted = self.wants_calibration
        if wanted and wanted != found:
            head = f"{self.recipe}: " if self.recipe else ""
            there = f"the bank's is {found}" if found else "there is no calibrated bank"
            raise ConfigError(f"{head}its options are of calibration {wanted}, and {there}; name that bank: bank.path")

    def _recipe(self, graph: "Graph", ctx: PassContext) -> dict[str, Option]:
        if not self.recipe or self.rules:
            raise ConfigError("by = 'recipe' needs the key recipe = 'FILE' and no rules")
        recipe = Recipe.load(self.recipe)
        recipe.check(graph.choices, ctx.denoiser.label if ctx.denoiser else recipe.denoiser)
        for name, option in recipe.layers.items():
            rule = Rule(RuleConfig(option.quantizer, None if option.is_none else option.bits))
            _option(rule, name, ctx.plugins.of(QUANTIZERS))
        return dict(recipe.layers)


def _formats(rules: Mapping[str, Any], where: Callable[[Key], str]) -> dict[str, FormatConfig]:
    """Read the rules that name number formats."""
    found = {}
    for key, rule in rules.items():
        config = rule.get("config") if isinstance(rule, dict) and len(rule) == 1 else None
        if isinstance(config, dict) and is_format(config):
            found[key] = FormatConfig.read(config, partial(_within, where, key))
    return found


def _within(where: Callable[[Key], str], rule: str, key: Key) -> str:
    return where((rule, "config", *key))


def _matching(by: By, key: str, types: Mapping[str, str], rule: Rule | FormatConfig | str) -> list[str]:
    """Return the layers that a rule matches; one with an option is checked where options are planned."""
    assert by != "recipe"
    try:
        return matching(by, key, types)
    except ConfigError:
        if isinstance(rule, FormatConfig):
            raise
        return []


def _to_table(rule: Rule | FormatConfig) -> str | Table:
    return {"config": rule.to_table()} if isinstance(rule, FormatConfig) else str(rule.config)


def _report(graph: "Graph", changed: "Mapping[str, Changed]") -> Change:
    groups: dict[tuple[str, str], list[Changed]] = {}
    for each in changed.values():
        groups.setdefault((each.type, each.option), []).append(each)
    known = any(each.outputs for each in changed.values())
    rows = tuple(
        (kind, option, len(g), _sum(g, "weights") / 1e6, _sum(g, "bits") / _sum(g, "weights"), *_ratios(g, known))
        for (kind, option), g in sorted(groups.items())
    )
    layers: dict[str, dict[str, object]] = {
        name: {"option": e.option, "bits": e.bits, "sqnr_db": _sqnr([e]), "quantized_error": e.quantized_error}
        for name, e in changed.items()
    }
    for name, each in changed.items():
        if each.outputs:
            layers[name] |= {"output_error": each.outputs.error, "output_sqnr_db": each.outputs.sqnr_db}
    outputs = ("outputs' SQNR dB",) if known else ()
    table = TextTable(("type", "option", "layers", "M weights", "bits/weight", "SQNR dB", *outputs), rows)
    planned = any(each.energy is None for each in changed.values())
    names = tuple(dict.fromkeys(graph.choices[name].layer.name for name in changed))
    split = len(graph.choices) - len(graph.weight_layers)
    summary = f"{len(names)} of {len(graph.weight_layers)} weight layers"
    summary += f", {split} of them in two parts: {len(graph.choices)} choices" if split else ""
    summary += ", planned: weights on meta have no values to fit" if planned else ""
    data = {"changed": len(changed), "planned": planned, "layers": layers}
    return Change(summary, (table,), data, names, preserves=frozenset({UNITS}))


def _ratios(group: "list[Changed]", known: bool) -> tuple[str | float, ...]:
    """Return the SQNR of a group's weights and, where that is `known` of some, of its layers' outputs."""
    outputs = [each.outputs for each in group if each.outputs]
    error = sum(each.error for each in outputs)
    ratio = 10 * math.log10(sum(each.signal for each in outputs) / error) if error else None
    return (_shown(_sqnr(group)), *((_shown(ratio),) if known else ()))


def _shown(ratio: float | None) -> str | float:
    return "–" if ratio is None else ratio


def _sum(group: "list[Changed]", key: str) -> float:
    return float(sum(getattr(each, key) for each in group))


def _sqnr(group: "list[Changed]") -> float | None:
    if any(each.energy is None for each in group):
        return None
    error = _sum(group, "squared_error")
    return 10 * math.log10(_sum(group, "energy") / error) if error else math.inf


def _as_rule(rule: Rule | FormatConfig | str, key: str) -> Rule | FormatConfig:
    return validate(Rule, _rule(rule, key), lambda _: key) if isinstance(rule, str) else rule


def _option(rule: Rule | FormatConfig | str, key: str, quantizers: "Catalogue[Quantizer]") -> Option:
    found = _as_rule(rule, key)
    assert isinstance(found, Rule)
    config = found.config
    name, width = config.name, config.weight_width
    if name.lower() in ("none", "na"):
        return Option.parse("none")
    if name not in quantizers:
        raise OptionError(f"{key}: no quantizer named {name!r}{there_are(name, quantizers)}")
    if width is None:
        raise OptionError(f"{key}: {name!r} needs weight_width, 1 to 8")
    return known_option(str(Option(name, width)), quantizers)


def _rule(option: str, place: str) -> Table:
    if option.partition("-")[0] in ("integer", "minifloat") or option.startswith("mx"):
        formed = Option.parse(option)
        return {"config": {"name": formed.quantizer, "weight_width": formed.bits}}
    name, _, width = option.rpartition("-")
    if name and width.isdigit():
        return {"config": {"name": name, "weight_width": int(width)}}
    if option.lower() in ("none", "na"):
        return {"config": {"name": option}}
    raise ConfigError(
        f"{place}: {option!r} is no option; expected a quantizer and a width, as in 'kmeans-c-4', or 'none'"
    )
