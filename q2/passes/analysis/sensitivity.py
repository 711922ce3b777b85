"""How much each layer matters, measured: one at a time through its options, all others as in a base recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from q2.errors import ConfigError
from q2.passes.base import AnalysisPass, PassContext, Report, TextTable, select
from q2.quant.kinds import QUANTIZERS
from q2.quant.options import NONE, Option
from q2.quant.recipe import Recipe
from q2.quant.resolve import known_option
from q2.quant.sensitivity import AloneFidelity, SensitivityTable, signal_of

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["IMAGES", "LayerSensitivity"]

IMAGES: Mapping[AloneFidelity, int] = {"forward": 8, "few-step": 64}
"""The default number of images at a fidelity, as in ``[search.evaluation]``."""


@dataclass(frozen=True)
class LayerSensitivity(AnalysisPass):
    """Measure each layer that matches `layers` alone at every one of `options` (else the bank's), others as in `base`.

    `base` is a recipe file, full precision if there is none; whatever is in place stays, and takes no part. ``forward``
    compares the denoiser's outputs for the inputs that full precision has on the way to `images` images in `steps`
    steps, ``few-step`` the latents of `images` such images (0: 8 and 64), from noise of `seed`, as a search at these
    fidelities does.

    The measurements are kept in `file` (else ``sensitivity/<denoiser>-<fidelity>.json``) while they are made: a run
    that is stopped goes on from there, and other options are added to what is there.
    """

    name: ClassVar[str] = "sensitivity"
    needs_weights: ClassVar[bool] = True
    layers: str = "*"
    """A shell-style pattern: which weight layers are measured."""
    fidelity: AloneFidelity = "forward"
    """How a layer is measured: `forward`, by the denoiser's outputs, or `few-step`, by latents."""
    options: tuple[str, ...] = ()
    """Which options; empty: the bank's. From a base `none` too."""
    base: Path | None = None
    """The recipe file that all other layers follow; left out: full precision."""
    images: int = 0
    """How many images; 0: 8 at `forward`, 64 at `few-step`."""
    steps: int = 4
    """Their denoising steps."""
    seed: int = 0
    """The seed of their noise."""
    batch: int = 100
    """Images at a time."""
    file: Path | None = None
    """File that measurements are stored in and resumed from; default: `sensitivity/<denoiser>-<fidelity>.json`."""

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` or another `Q2Error` for options that cannot be used.

        These are expressions that match nothing, numbers out of range, a checkpoint without a pipeline, and no
        `options` where there is no bank.
        """
        select(graph.weight_layers, self.layers)
        for key, least in (("images", 0), ("steps", 1), ("seed", 0), ("batch", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"{key}: expected at least {least}, not {getattr(self, key)}")
        for text in self.options:
            known_option(text, ctx.plugins.of(QUANTIZERS))
        self.base_of(graph, ctx)
        denoiser = ctx.denoiser
        if denoiser is None or denoiser.weights == "meta":
            return
        if not denoiser.has_pipeline:
            raise ConfigError("the checkpoint is a component alone, which makes no images to measure with")
        if not self.options and ctx.bank is None:
            raise ConfigError("options: say which, or make a bank first, whose options are taken: q2 bank")

    def base_of(self, graph: "Graph", ctx: PassContext) -> dict[str, str]:
        """Return the options of the base that quantize something. Raises `RecipeError` for another denoiser's."""
        if self.base is None:
            return {}
        recipe = Recipe.load(self.base)
        recipe.check(graph.choices, ctx.denoiser.label if ctx.denoiser else recipe.denoiser)
        return {name: str(option) for name, option in recipe.layers.items() if not option.is_none}

    @property
    def images_made(self) -> int:
        """How many images are made at the fidelity."""
        return self.images or IMAGES[self.fidelity]

    def options_of(self, ctx: PassContext) -> Sequence[str]:
        """Return the options to be measured; with a base ``none`` is one of them."""
        own = [str(Option.parse(text)) for text in self.options] or list(ctx.bank.plan.options if ctx.bank else ())
        return list(dict.fromkeys([*own, *([NONE] if self.base else [])]))

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Measure what the file does not have yet, and report all that was asked for."""
        from q2.passes.analysis.one_at_a_time import measure

        return _report(measure(graph, self, ctx), self)


def _report(table: SensitivityTable, step: LayerSensitivity) -> Report:
    ranked, base = table.ranked(), bool(table.base)
    gains = ("gain", "gain dB") if base else ()
    rows = []
    for choice, row in table.sqnr_db.items():
        for option, db in row.items():
            more = (table.gain(choice, option), db - table.base_db) if base else ()
            rows.append((choice, option, db, table.noise(choice, option), *more))
    heads = ("layer", "option", f"{signal_of(table.fidelity)} dB", "noise to signal", *gains)
    layers: list[tuple[str | float, ...]] = []
    for choice, spread in ranked:
        at = sorted(table.sqnr_db[choice].items(), key=lambda pair: pair[1])
        layers.append((choice, spread, *at[0], *at[-1]))
    tables = (
        TextTable(("layer", "sensitivity", "worst", "dB", "best", "dB"), tuple(layers), "Most sensitive first"),
        TextTable(heads, tuple(rows), "Every option of every layer, alone"),
    )
    most = ", ".join(choice for choice, _ in ranked[:3])
    where = f"from {step.base} ({table.base_db:.4g} dB)" if base else "from full precision"
    count = sum(map(len, table.sqnr_db.values()))
    summary = f"{count} options of {len(ranked)} layers alone, {where}, at {table.fidelity}; most sensitive: {most}"
    files = {"sensitivity.json": table.to_json().encode(), "sensitivity.csv": table.to_csv().encode()}
    return Report(summary, tables, {"sensitivity": table.table()}, files=files)
