"""What a recipe costs, from its options alone: sums over choices, such as average bits, bytes, errors and BOPs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from q2.errors import ConfigError
from q2.passes import PassContext
from q2.passes.analysis.bops import BOPS, Bops
from q2.quant import Option
from q2.quant.kinds import QUANTIZERS
from q2.quant.widths import FULL
from q2.search.space import Indices, Space

if TYPE_CHECKING:
    from q2.graph import Choice, Graph
    from q2.quant.bank import Bank
    from q2.quant.base import Fitted

__all__ = ["Costs", "finite"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Costs:
    """Metrics that are sums over choices: what every option of every choice adds, and what is always there.

    `tables` have the shape (choices, options) with the options of the whole space (`Space.options`), those that a
    choice may not take included; a recipe's value is ``constants[name] + Σ tables[name][choice, option]``.
    """

    space: Space
    tables: Mapping[str, Array]
    constants: Mapping[str, float]

    @classmethod
    def of_graph(cls, graph: "Graph", space: Space, ctx: PassContext, bank: "Bank | None") -> "Costs":
        """Work out ``avg_bits``, ``quantized_size``, ``model_size`` and ``bops``.

        With a bank ``quantized_error`` is there too, and ``output_error`` where it knows that of every option.

        The graph is the denoiser's before it is quantized; activations count as they are quantized in it.
        ``model_size`` is what the tensors of a saved denoiser take in its files, where float32 that float16 holds
        exactly takes 16 bits; weights on meta have no values to tell, and count in their own dtype.
        """
        from q2.quant.dtypes import compact

        options = [Option.parse(text) for text in space.options]
        quantizers = [ctx.plugins.of(QUANTIZERS).load(option.quantizer)() for option in options]
        total = float(str(Bops().run(graph, ctx).data["tbops"])) * 1e12
        bops = {name: layer.bops for name, layer in graph.facts.get(BOPS).items()}  # all at full precision
        rows: dict[str, list[list[float]]] = {
            name: [] for name in ("bits", "bytes", "stored", "bops", "error", "output")
        }
        for choice in space.choices:
            parts = [graph.choices[layer] for layer in choice.layers]
            columns: dict[str, list[float]] = {name: [] for name in rows}
            for option, quantizer in zip(options, quantizers, strict=True):
                sizes = [quantizer.size_bits(part.shape, option.bits, ctx.prec) for part in parts]
                over = [quantizer.overhead_bits(part.shape, option.bits, ctx.prec) for part in parts]
                held = [-(-(bits - more) // 8) + more // 8 for bits, more in zip(sizes, over, strict=True)]
                width = quantizer.arithmetic_bits(option.bits)
                columns["bits"].append(sum(sizes))
                columns["bytes"].append(sum(held))
                columns["stored"].append(sum(map(_kept_bytes, parts)) if option.is_none else sum(held))
                columns["bops"].append(sum(bops[part.name] for part in parts) * width / FULL / 1e12)
                fits = [_fitted(bank, part.name, option) for part in parts] if bank else []
                columns["error"].append(sum(fit.quantized_error for fit in fits if fit))
                columns["output"].append(sum(fit.outputs.error for fit in fits if fit and fit.outputs))
            for name, row in columns.items():
                rows[name].append(row)
        table = {name: np.array(row, np.float64).reshape(len(space), -1) for name, row in rows.items()}
        weights = sum(choice.weights for choice in graph.choices.values())
        mine = {f"{name}.weight" for name in graph.weight_layers}
        state = graph.model.state_dict().items()
        left = {name: choice for name, choice in graph.choices.items() if name not in space.layers}
        rest = sum(compact(tensor).nbytes for name, tensor in state if name not in mine)
        rest += sum(map(_kept_bytes, left.values()))
        outside = ctx.prec * sum(choice.weights for choice in left.values())
        tables = {
            "avg_bits": table["bits"] / weights,
            "quantized_size": table["bytes"],
            "model_size": table["stored"],
            "bops": table["bops"],
        }
        others = (total - sum(cost for name, cost in bops.items() if name not in left)) / 1e12
        sizes_left = {"quantized_size": outside / 8, "model_size": float(rest)}
        constants = {"avg_bits": outside / weights, **sizes_left, "bops": others}
        if bank:
            tables["quantized_error"], constants["quantized_error"] = table["error"], 0.0
        if bank and bank.rows:
            tables["output_error"], constants["output_error"] = table["output"], 0.0
        return cls(space, tables, constants)

    def value(self, name: str, indices: Indices) -> Array:
        """Return a metric of a vector or vectors (..., choices) of option indices."""
        places = self.space.places(indices)
        picked = self.tables[name][np.arange(len(self.space)), places]
        return np.asarray(picked.sum(-1) + self.constants[name])

    def metrics(self, recipe: Mapping[str, str]) -> dict[str, float]:
        """Return all of them of one recipe. Raises `RecipeError` for one that is not of the space."""
        indices = self.space.encode(recipe)
        return {name: float(self.value(name, indices)) for name in self.tables}

    def finite(self) -> "Costs":
        """Return the same for a strategy that ranks options: what is not finite costs more than all others together.

        The error of an option that overflows is infinite or NaN; its recipes fail when they are measured.
        """
        return replace(self, tables={name: finite(table) for name, table in self.tables.items()})

    @property
    def error(self) -> str:
        """The errors that say most of quality: those of outputs where they are known, else of weights."""
        return "output_error" if "output_error" in self.tables else "quantized_error"

    def extent(self, name: str) -> tuple[float, float]:
        """Return the least and the greatest finite value that a recipe of the space can have."""
        table = self.finite().tables[name]
        allowed = [table[i, row[row >= 0]] for i, row in enumerate(self.space.columns)]
        always = self.constants[name]
        return float(sum(row.min() for row in allowed) + always), float(sum(row.max() for row in allowed) + always)

    def check(self, names: Iterable[str]) -> None:
        """Raise `ConfigError` for a metric that is no sum over choices."""
        for name in names:
            if name not in self.tables:
                raise ConfigError(f"{name}: is no sum over layers; these are: {', '.join(self.tables)}")


def finite(table: Array) -> Array:
    """Return a table (choices, options) whose values that are not finite exceed the sum of all others."""
    good = np.isfinite(table)
    return np.where(good, table, 1 + 2 * len(table) * np.abs(table[good]).max(initial=0))


def _kept_bytes(choice: "Choice") -> int:
    """Return what a choice that is not quantized takes in a file."""
    from torch import Tensor

    from q2.quant.dtypes import compact

    weight = choice.layer.module.weight
    assert isinstance(weight, Tensor)
    return choice.weights * compact(weight.detach()).element_size()


def _fitted(bank: "Bank", name: str, option: Option) -> "Fitted | None":
    """Return how the bank has an option; None where nothing is quantized. Raises `ConfigError` if it lacks it."""
    if option.is_none:
        return None
    fitted = bank.fitted(name, option)
    if fitted is None:
        raise ConfigError(
            f"options: the bank {bank.folder} does not hold {option}; it has {', '.join(bank.plan.options)}"
        )
    return fitted
