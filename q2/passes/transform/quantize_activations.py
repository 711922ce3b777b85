"""Activation quantization: inputs of weight layers, and q, k, v and softmax of attention, while the model runs."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import PlainValidator

from q2.config import Key, Table, validate
from q2.errors import ConfigError, did_you_mean
from q2.passes.analysis.size import SIZES
from q2.passes.analysis.units import UNITS
from q2.passes.base import Change, PassContext, TextTable, TransformPass
from q2.passes.transform.rules import By, matching
from q2.quant.widths import FULL, bits_of

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.passes.transform.activations import ActivationBits

__all__ = ["QuantizeActivations"]

ATTENTION = "attention"
Bits = Annotated[int | str, PlainValidator(lambda value: value)]


@dataclass(frozen=True)
class QuantizeActivations(TransformPass):
    """Quantize activations per token, online and without calibration, wherever the graph runs (`Graph.installed`).

    Inputs of weight layers and q, k and v get `bits`, 4 to 8, the output of the softmax between them gets `softmax`,
    with its zero at 0; ``"none"`` (or 16) leaves them as they are. `attention` is false where q, k, v and softmax stay,
    or has bits of its own. Rules by ``type``, ``name`` or ``regex`` say it for some layers, and by their module's name
    for some attentions; of a layer that reads a skip connection the parts ``path`` and ``path#1`` are quantized apart.
    The pass says it all: what an earlier one set is gone. Source: Qua²SeDiMo (AAAI'25), activations.
    """

    name: ClassVar[str] = "quantize-activations"
    bits: Bits = 8
    """Bits of the inputs of weight layers, and of q, k and v: 4 to 8, or `none`."""
    softmax: Bits = 8
    """Bits of the softmax's output inside attention, with zero fixed at 0."""
    attention: Bits = True
    """Whether q, k, v and softmax are quantized too; or bits of their own."""
    by: By = "type"
    """How rules match: `type`, `name` or `regex`, as in `quantize`; an attention has its module's name."""
    rules: Mapping[str, Bits] = field(default_factory=dict)
    """Every further key is a rule, with bits or `none`."""

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Read the options; every other key is a rule, whose value is bits or ``"none"``.

        Raises `ConfigError`, naming the key, for other values.
        """
        own = {entry.name for entry in dataclasses.fields(cls)} - {"rules"}
        rules = {key: value for key, value in table.items() if key not in own}
        for key, value in table.items():
            if key == "by" or (key == ATTENTION and isinstance(value, bool)):
                continue
            if key in rules and not isinstance(value, int | str):
                raise ConfigError(f"{where((key,))}: unknown key{did_you_mean(key, own)}")
            bits_of(value, where((key,)))
        options = {key: value for key, value in table.items() if key in own}
        return validate(cls, {**options, "rules": rules}, lambda key: where(key[1:] if key[:1] == ("rules",) else key))

    def to_table(self) -> Table:
        """Return the options as `from_table` reads them."""
        options = {"bits": self.bits, "softmax": self.softmax, ATTENTION: self.attention, "by": self.by}
        return options | dict(self.rules)

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for bits that there are not, and for a rule that matches no layer and no attention."""
        self.plan(graph)

    def plan(self, graph: "Graph") -> "ActivationBits":
        """Return the bits of every layer and attention, before anything is changed."""
        from q2.graph.attention import labels_of
        from q2.passes.transform.activations import ActivationBits, InputBits

        called = {str(node.target) for node in graph.fx.nodes if node.op == "call_module"}
        choices = {name: choice for name, choice in graph.choices.items() if choice.layer.name in called}
        attentions = dict.fromkeys(each.name for each in graph.attentions if each.scores and each.values)
        bits, softmax = bits_of(self.bits, "bits"), bits_of(self.softmax, "softmax")
        inner = (
            (bits if self.attention else FULL)
            if isinstance(self.attention, bool)
            else bits_of(self.attention, ATTENTION)
        )
        found = dict.fromkeys(choices, bits) | dict.fromkeys(attentions, inner)
        types = {name: choice.layer.type for name, choice in choices.items()}
        names = types if self.by == "type" else types | dict.fromkeys(attentions, ATTENTION)
        own = [entry.name for entry in dataclasses.fields(self) if entry.name != "rules"]
        for key, value in reversed(list(self.rules.items())):  # the first that matches wins
            found |= dict.fromkeys(matching(self.by, key, names, options=own), bits_of(value, key))
        layers: dict[str, InputBits] = {}
        for name, choice in choices.items():
            layer = layers.get(choice.layer.name, InputBits(len(choice.layer.kernel_size), ()))
            layers[choice.layer.name] = replace(layer, parts=(*layer.parts, (found[name], choice.channels)))
        layers = {name: layer for name, layer in layers.items() if any(bits < FULL for bits, _ in layer.parts)}
        attention = {name: found[name] for name in attentions if found[name] < FULL}
        for each in graph.attentions:
            for product in (*each.scores, *each.values) if each.name in attention and not each.is_fused else ():
                labels_of(product)  # says what it cannot tell apart
        return ActivationBits(layers, attention, softmax)

    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Have the graph executed with these activations, or with those of the model where all are ``"none"``."""
        plan = self.plan(graph)
        graph.rewrite(self.name, plan if plan.layers or plan.attention else None)
        return _report(graph, plan)


def _report(graph: "Graph", plan: "ActivationBits") -> Change:
    counts = Counter((choice.layer.type, plan.of(choice)) for choice in graph.choices.values())
    attentions = dict.fromkeys(each.name for each in graph.attentions)
    counts.update((ATTENTION, plan.attention.get(name, FULL)) for name in attentions)
    rows = tuple(
        (kind, bits, plan.softmax if kind == ATTENTION and bits < FULL else "–", count)
        for (kind, bits), count in sorted(counts.items())
    )
    summary = f"inputs of {len(plan.layers)} of {len(graph.weight_layers)} weight layers"
    summary += f", {len(plan.attention)} of {len(attentions)} attentions"
    table = TextTable(("type", "bits", "softmax bits", "inputs"), rows)
    layers = {name: plan.of(choice) for name, choice in graph.choices.items()}
    data = {"layers": layers, ATTENTION: dict(plan.attention), "softmax": plan.softmax}
    return Change(summary, (table,), data, tuple(plan.layers), preserves=frozenset({SIZES, UNITS}))
