"""A transform run: TOML to settings, denoiser, graph, passes in file order, then report and artifacts in one folder."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Literal, TypeVar

import torch

from q2.config import Key, RunFile, Settings, Table, to_toml
from q2.denoisers import Denoiser, Samples, Weights, device_of, load
from q2.denoisers.comparison import Comparison, compare
from q2.denoisers.picture import draw
from q2.denoisers.saving.save import check_folder, save_packed
from q2.errors import ConfigError, Q2Error
from q2.files import replacing, write_json, write_text
from q2.graph import Graph, trace
from q2.graph.flow.draw import check_block
from q2.graph.flow.draw import draw as draw_flow
from q2.passes import Pass, PassContext, PassManager, PassResult, Step, is_transform, passes_of
from q2.passes.analysis.dag import Dag
from q2.passes.analysis.size import SIZES, Size
from q2.passes.requires import all_required
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Option, Recipe
from q2.quant.bank import Bank
from q2.quant.resolve import known_option
from q2.session.bank import BankReport, bank_folder, build_bank, find_bank
from q2.version import version

__all__ = [
    "Outcome",
    "Plan",
    "load_denoiser",
    "make_bank",
    "manifest",
    "named",
    "open_bank",
    "plot_dag",
    "plugins_of",
    "prepare",
    "recipe_of",
    "run_folder",
    "transform",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """A run file with everything it names found: nothing has been loaded or run yet."""

    run: RunFile
    settings: Settings
    plugins: Plugins
    passes: list[tuple[str, Pass]]

    @property
    def title(self) -> str:
        """What the run is about, in a word: the denoiser's name, or its class, or the folder that it comes from."""
        wanted = self.settings.denoiser
        return wanted.name or wanted.model.partition(":")[2] or Path(wanted.checkpoint).name or "digits-dit"

    @property
    def effective(self) -> Table:
        """Every setting in effect, the passes' defaults included, as a run file would say it."""
        table = self.settings.model_dump(mode="json")
        table["passes"] = {
            title: ({} if title == step.name else {"pass": step.name}) | step.to_table() for title, step in self.passes
        }
        return table

    def with_weights(self, weights: Weights) -> "Plan":
        """Return the same plan with other weights."""
        denoiser = self.settings.denoiser.model_copy(update={"weights": weights})
        return replace(self, settings=self.settings.model_copy(update={"denoiser": denoiser}))

    def without(self, name: str) -> "Plan":
        """Return the same plan without the passes of a name."""
        return replace(self, passes=[(title, step) for title, step in self.passes if step.name != name])

    def of_saved(self) -> "Plan":
        """Return the same plan without the transforms whose results `save` has kept: all but that of activations."""
        kept = [each for each in self.passes if not is_transform(each[1]) or each[1].name == QuantizeActivations.name]
        return replace(self, passes=kept)

    def rows(self) -> list[list[str]]:
        """Return the effective-settings table: name, default, file, override, effective."""
        defaults = Settings().model_dump(mode="json")
        defaults["passes"] = {title: _defaults(step) for title, step in self.passes}
        return self.run.rows(defaults, self.effective)


@dataclass(frozen=True)
class Outcome:
    """What a run gave: the quantized denoiser and its graph, the results, and the files in `folder`."""

    denoiser: Denoiser
    graph: Graph
    results: list[PassResult]
    comparison: Comparison | None
    recipe: Recipe
    folder: Path
    files: list[Path] = field(default_factory=list)


def prepare(run: RunFile) -> Plan:
    """Find the plugins and passes that a run file names. Raises `Q2Error` for the first that does not exist."""
    settings, plugins = run.settings, plugins_of(run)
    _check_options(run, settings, plugins)
    return Plan(run, settings, plugins, passes_of(run, plugins))


def plugins_of(run: RunFile) -> Plugins:
    """Find the plugins of a run file: the installed ones and its own. Raises `ConfigError`."""
    wanted = run.settings.plugins
    return named(run, lambda: Plugins(wanted.modules, wanted.disable))


def _check_options(run: RunFile, settings: Settings, plugins: Plugins) -> None:
    """Raise `ConfigError`, with the key, for an option of the bank or the search that there is not."""
    keys: dict[Key, tuple[str, ...]] = {("bank", "options"): settings.bank.options}
    keys[("search", "options")] = settings.search.options
    keys |= {("search", "layers", pattern): options for pattern, options in settings.search.layers.items()}
    for key, options in keys.items():
        for text in options:
            named(run, partial(known_option, text, plugins.quantizers), *key)


def transform(
    plan: Plan,
    folder: Path,
    *,
    save: Path | None = None,
    verify_each: bool = False,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Outcome:
    """Run the passes of `plan` and write report, recipe, settings, manifest and pictures into `folder`.

    With `save` the pipeline is written there too, its weights packed (`save_packed`).
    Nothing is written before all has run. Raises `Q2Error` for what does not fit, before the first pass runs.
    """
    settings = plan.settings
    start = time.perf_counter()
    if save:
        check_folder(save)
    denoiser = load_denoiser(plan, pipeline=save is not None)
    fingerprint = denoiser.fingerprint
    show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({fingerprint})"))
    start = time.perf_counter()
    graph = trace(denoiser.model, denoiser.example_inputs())
    weights = sum(layer.weights for layer in graph.weight_layers.values())
    facts = f"{len(graph.fx.nodes)} nodes, {len(graph.weight_layers)} weight layers, {weights / 1e6:.2f} M weights"
    show(Step("trace", time.perf_counter() - start, f"{facts}, {graph.macs / 1e9:.4g} GMACs"))
    bank = open_bank(plan, graph, denoiser)
    if bank is not None:
        show(Step("bank", 0, f"{bank.folder}: {len(bank.plan.options)} options of {len(bank.plan.layers)} layers"))
    ctx = PassContext(plan.plugins, denoiser, settings.seed, progress, settings.prec, bank)
    manager = PassManager(_possible(plan, denoiser, show), ctx, verify_each)
    named(plan.run, lambda: manager.check(graph))
    start = time.perf_counter()
    full = _samples(settings, denoiser, graph, progress)
    results, seconds = [], time.perf_counter() - start
    for result in manager.each(graph):
        results.append(result)
        show(Step(result.title, result.seconds, result.report.summary, result.report.tables))
    comparison = None
    if full:
        start = time.perf_counter()
        quantized = _samples(settings, denoiser, graph, progress)
        assert quantized is not None
        comparison = compare(full, quantized, denoiser.judge())
        seconds += time.perf_counter() - start
        show(Step("samples", seconds, _summary(comparison)))
    recipe = recipe_of(graph, ctx, fingerprint)
    if save:
        start = time.perf_counter()
        tables = [step.to_table() for _, step in plan.passes if step.name == QuantizeActivations.name]
        lost = [name for name in graph.rewrites if name != QuantizeActivations.name]
        if lost:
            show(Step("save", 0, f"left out: {', '.join(lost)}, which a folder cannot keep"))
        saved = save_packed(
            denoiser, save, settings.prec, progress, tables[-1] if tables else None, plugins=plan.plugins
        )
        words = f"{save}/: {saved.files / 1e6:.2f} MB of weights, {saved.packed / 1e6:.2f} MB of them packed"
        show(Step("save", time.perf_counter() - start, words))
    outcome = Outcome(denoiser, graph, results, comparison, recipe, folder)
    try:
        _write(plan, outcome, seconds)
    except OSError as error:
        raise Q2Error(f"{folder}: cannot be written: {error.strerror or error}") from error
    return outcome


def plot_dag(plan: Plan, out: Path, block: str = "", scores: Mapping[str, float] | None = None) -> str:
    """Draw the run's denoiser into `out`, an .svg or .png, coloured by what its transforms say; return a line.

    With `scores` by flow node these give the colours. Nothing is loaded: the denoiser is built on meta. Raises
    `Q2Error`.
    """
    kinds: dict[str, Literal["svg", "png"]] = {".svg": "svg", ".png": "png"}
    if out.suffix not in kinds:
        raise ConfigError(f"--out {out}: expected a name that ends in .svg or .png")
    denoiser = load_denoiser(plan.with_weights("meta"))
    graph = trace(denoiser.model, denoiser.example_inputs())
    try:
        check_block(graph.flow(), block)
    except ConfigError as error:
        raise ConfigError(f"--block {block}: {error}") from error
    if scores is not None:
        unknown = next((name for name in scores if name not in graph.flow()), None)
        if unknown is not None:
            raise ConfigError(f"--labels: of another denoiser than {denoiser.label}: it has no layer {unknown!r}")
    ctx = PassContext(plan.plugins, denoiser, prec=plan.settings.prec)
    if scores is None:
        dag = Dag(block, kinds[out.suffix])
        passes = [(title, step) for title, step in plan.passes if not _needs_weights(plan, step)]
        manager = PassManager([*passes, ("dag", dag)], ctx, only=lambda step: step is dag or is_transform(step))
        named(plan.run, lambda: manager.check(graph))
        report = manager.run(graph)[-1].report
        data, line = next(iter(report.files.values())), report.summary.partition(" → ")[0]
        left = [title for title, step in plan.passes if is_transform(step) and _needs_weights(plan, step)]
        line += f"; left out, as weights on meta have no values: {', '.join(left)}" if left else ""
    else:
        title = f"{denoiser.label}: how sensitive its layers are"
        data = draw_flow(graph, graph.units(), title=title, block=block, scores=scores, kind=kinds[out.suffix])
        line = f"coloured by the sensitivity of {len(scores)} layers"
    try:
        with replacing(out) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise Q2Error(f"--out {out}: cannot be written: {error.strerror or error}") from error
    return line


def make_bank(
    plan: Plan, out: Path | None = None, progress: Progress = silent, options: Sequence[str] = ()
) -> BankReport:
    """Build the bank of the run's denoiser into `out`, or where the run file says; see `build_bank`.

    It gets `options`, or if there are none those that the run file says.
    """
    settings = plan.settings
    folder = out or bank_folder(settings.bank.path, plan.title)
    denoiser, shapes = (_create(each) for each in (plan, plan.with_weights("meta")))
    return named(
        plan.run,
        lambda: build_bank(
            denoiser,
            shapes,
            folder,
            options=tuple(options) or settings.bank.options,
            prec=settings.prec,
            plugins=plan.plugins,
            progress=progress,
        ),
    )


def open_bank(plan: Plan, graph: Graph, denoiser: Denoiser) -> Bank | None:
    """Return the bank of the run's denoiser, if there is one. Raises `ConfigError`."""
    if denoiser.weights == "meta":
        return None
    settings = plan.settings
    find = partial(find_bank, settings.bank.path, plan.title, graph, denoiser, prec=settings.prec, plugins=plan.plugins)
    return named(plan.run, find, "bank", "path")


def recipe_of(graph: Graph, ctx: PassContext, fingerprint: str) -> Recipe:
    """Return the recipe that the graph's layers follow now."""
    if SIZES not in graph.facts:
        Size().run(graph, ctx)
    sizes = graph.facts.get(SIZES)
    bits = sum(size.bits for size in sizes.values()) / sum(size.weights for size in sizes.values())
    layers = {name: Option.parse(size.option) for name, size in sizes.items()}
    return Recipe(layers, ctx.need_denoiser("a recipe").label, fingerprint, bits)


def run_folder(out: Path | None, name: str) -> Path:
    """Return where a run writes: `out`, or a folder named after the time. Raises `ConfigError` if that is a file."""
    folder = out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise ConfigError(f"--out {folder}: {part} is a file, expected a folder")
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not os.access(there, os.W_OK):
        raise ConfigError(f"--out {folder}: {there} cannot be written to")
    return folder


def _possible(plan: Plan, denoiser: Denoiser, show: Callable[[Step], None]) -> list[tuple[str, Pass]]:
    """Return the passes that can run; say which are left out because weights on meta have no values."""
    if denoiser.weights != "meta":
        return plan.passes
    without = [title for title, step in plan.passes if _needs_weights(plan, step)]
    for title in (*without, *(["samples"] if plan.settings.samples.images else [])):
        show(Step(title, 0, "left out: it needs weights, and these are on meta"))
    return [(title, step) for title, step in plan.passes if title not in without]


def _needs_weights(plan: Plan, step: Pass) -> bool:
    """Say whether a pass, or one that it requires, reads values of weights."""
    names = all_required(type(step), {}, plan.plugins)
    return step.needs_weights or any(plan.plugins.passes.load(name).needs_weights for name in names)


def load_denoiser(plan: Plan, *, pipeline: bool = False) -> Denoiser:
    """Return the run's denoiser, its model loaded, and its pipeline too if asked for or if there are images to make."""
    denoiser = _create(plan)
    images = plan.settings.samples.images and denoiser.weights != "meta"
    named(plan.run, lambda: denoiser.pipeline() if images or pipeline else denoiser.model, "denoiser", _key(plan))
    return denoiser


def _create(plan: Plan) -> Denoiser:
    """Return the run's denoiser; nothing of it is loaded yet."""
    wanted = plan.settings.denoiser
    if wanted.name:
        named(plan.run, lambda: plan.plugins.denoisers.load(wanted.name), "denoiser", "name")
    named(plan.run, lambda: device_of(wanted.device), "denoiser", "device")
    return named(plan.run, lambda: load(**wanted.model_dump(), plugins=plan.plugins), "denoiser", _key(plan))


def _key(plan: Plan) -> str:
    """Return the key that says which denoiser it is."""
    return next((key for key in ("checkpoint", "model") if getattr(plan.settings.denoiser, key)), "name")


def named(run: RunFile, call: Callable[[], T], *key: str) -> T:
    """Call, and put the file and the key in front of a user's mistake."""
    try:
        return call()
    except Q2Error as error:
        raise ConfigError(f"{run.where(key) if key else run.name}: {error}") from error


def _samples(settings: Settings, denoiser: Denoiser, graph: Graph, progress: Progress) -> Samples | None:
    if not settings.samples.images or denoiser.weights == "meta":
        return None
    with graph.installed():
        return denoiser.generate(
            settings.samples.images, seed=settings.seed, batch=settings.samples.batch, progress=progress
        )


def _summary(comparison: Comparison) -> str:
    count, accuracy = len(comparison.full.labels), comparison.accuracy
    if accuracy is None:
        return f"{count} images each"
    noise = "within noise" if accuracy.within_noise else "beyond noise"
    points = f"difference {100 * accuracy.loss:.1f} ± {100 * accuracy.interval:.1f} points: {noise}"
    return f"{count} images each · recognised {accuracy.full:.1%} → {accuracy.quantized:.1%} ({points})"


def _defaults(step: Pass) -> Table:
    """Return the defaults of a pass's options."""
    return type(step)().to_table()


def _write(plan: Plan, outcome: Outcome, sample_seconds: float) -> None:
    """Write report, recipe, settings, manifest and picture."""
    folder, comparison = outcome.folder, outcome.comparison
    report: dict[str, object] = {
        "q2": version(),
        "denoiser": {"name": outcome.denoiser.label, "fingerprint": outcome.recipe.fingerprint},
        "passes": {
            result.title: {"seconds": round(result.seconds, 3), "summary": result.report.summary, **result.report.data}
            for result in outcome.results
        },
    }
    pictures = {name: data for result in outcome.results for name, data in result.report.files.items()}
    names = [*pictures, "recipe.toml", "effective.toml", "manifest.json", "report.json"]
    if comparison:
        names.insert(0, "samples.png")
        report["samples"] = {"seconds": round(sample_seconds, 3), "images": len(comparison.full.labels)} | (
            {"accuracy": asdict(comparison.accuracy)} if comparison.accuracy else {}
        )
    with ExitStack() as stack:  # all are complete before the first is renamed
        beside = {name: stack.enter_context(replacing(folder / name)) for name in names}
        if comparison:
            title = f"{outcome.denoiser.label} at {outcome.recipe.avg_bits:.2f} bits a weight"
            draw(comparison, title).save(beside["samples.png"], format="PNG")
        for name, data in pictures.items():
            beside[name].write_bytes(data)
        outcome.recipe.save(beside["recipe.toml"])
        write_text(beside["effective.toml"], to_toml(plan.effective))
        write_json(beside["manifest.json"], manifest(plan, outcome.denoiser))
        write_json(beside["report.json"], report)
    outcome.files.extend(folder / name for name in names)


def manifest(plan: Plan, denoiser: Denoiser) -> dict[str, object]:
    """Return what made a run: versions, plugins, seed, machine."""
    packages = ("torch", "diffusers", "numpy", "numba", "safetensors")
    return {
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "config": plan.run.name,
        "seed": plan.settings.seed,
        "versions": {"python": platform.python_version(), "q2": version()}
        | {name: version_of(name) for name in packages},
        "plugins": [asdict(info) for info in plan.plugins.infos],
        "machine": {
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": str(denoiser.device),
        },
    }
