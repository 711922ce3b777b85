"""A transform: the passes of a run file over its denoiser, then report, recipe and pictures in one folder."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from q2.denoisers import Denoiser, Samples
from q2.denoisers.comparison import Comparison, compare
from q2.denoisers.components import ComponentSize
from q2.denoisers.picture import draw, sheet
from q2.denoisers.saving.save import check_folder, save_packed
from q2.files import replacing, write_json
from q2.graph import Graph
from q2.passes import Instrument, PassManager, PassResult, Step, TextTable, pipeline_text
from q2.passes.analysis.size import SIZES
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.quant import Recipe
from q2.search.metrics.difference import FEW
from q2.session.bank import open_bank
from q2.session.checks import check_asked, check_passes
from q2.session.components import check_parts, quantize_parts_of
from q2.session.drift import Drift, drift_of
from q2.session.folder import RunOf, check_free
from q2.session.report import manifest, recipe_of, writing
from q2.session.reproducer import reproducing
from q2.session.saved import original_of
from q2.session.session import Session
from q2.session.timing import Spent, TimeSpent
from q2.version import version

__all__ = ["Transformed", "save", "transform"]


@dataclass(frozen=True, eq=False)
class Transformed:
    """What a transform gave: the quantized denoiser and its graph, the results, and the files in `folder`.

    `comparison` is there where the run file asks for samples; `seconds` is what these took. `drift` is there where a
    recipe was found on other weights; `components` are the sizes of the other parts that were quantized. `timing` is
    there where the instruments have one.
    """

    session: Session
    results: list[PassResult]
    comparison: Comparison | None
    recipe: Recipe
    folder: Path | None
    seconds: float = 0.0
    files: list[Path] = field(default_factory=list)
    drift: Drift | None = None
    components: list[ComponentSize] = field(default_factory=list)
    timing: TimeSpent | None = None

    @property
    def pass_pipeline(self) -> str:
        """The passes that ran, as text for ``--passes``, without passes that ran only for others."""
        return pipeline_text([(each.title, each.step) for each in self.results if not each.needed_by])

    @property
    def table(self) -> TextTable:
        """What every pass said, and the images where there are some."""
        rows = [(each.title, f"{each.seconds:.1f} s", each.report.summary) for each in self.results]
        rows += [("component", "", each.summary) for each in self.components]
        if self.comparison:
            rows.append(("samples", f"{self.seconds:.1f} s", _summary(self.comparison)))
        return TextTable(("pass", "time", "result"), tuple(rows))

    def __repr__(self) -> str:
        place = f", in {self.folder}/" if self.folder else ""
        return f"{self.denoiser.label} at {self.recipe.avg_bits:.2f} bits a weight{place}\n{self.table}"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()

    @property
    def denoiser(self) -> Denoiser:
        """The denoiser, its layers quantized."""
        return self.session.denoiser

    @property
    def line(self) -> str:
        """What it came to: the size, and what the images say."""
        images = f" · {_summary(self.comparison)}" if self.comparison else ""
        return f"{self.denoiser.label} at {self.recipe.avg_bits:.2f} bits a weight{images}"

    @property
    def graph(self) -> Graph:
        """The graph over the quantized layers."""
        return self.session.graph

    @property
    def pipeline(self) -> Any:
        """The diffusers pipeline around the quantized denoiser."""
        return self.session.load_pipeline()

    @property
    def report(self) -> dict[str, object]:
        """What ``report.json`` holds."""
        report: dict[str, object] = {
            "q2": version(),
            "denoiser": {"name": self.denoiser.label, "fingerprint": self.recipe.fingerprint},
            "pass_pipeline": self.pass_pipeline,
            "passes": {
                each.title: {"seconds": round(each.seconds, 3), "summary": each.report.summary, **each.report.data}
                for each in self.results
            },
        }
        if self.components:
            report["components"] = {each.name: each.data for each in self.components}
            report["total"] = self.total
        if self.drift:
            report["recipe"] = self.drift.data
        if self.timing:
            report["timing"] = self.timing.data
        if self.comparison:
            accuracy = self.comparison.accuracy
            report["samples"] = {"seconds": round(self.seconds, 3), "images": len(self.comparison.full.labels)} | (
                {"accuracy": asdict(accuracy)} if accuracy else {}
            )
        return report

    @property
    def total(self) -> dict[str, int]:
        """Bytes of the weight layers of the denoiser and of the components that were asked for, now and in full."""
        held = sum(size.bytes for size in self.session.graph.facts.get(SIZES).values())
        weights = sum(size.weights for size in self.session.graph.facts.get(SIZES).values())
        full = weights * self.session.settings.prec // 8
        return {
            "bytes": held + sum(each.bytes for each in self.components),
            "full_bytes": full + sum(each.full_bytes for each in self.components),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the pipeline into `folder`, its weights packed; plain diffusers loads it once q2 is imported."""
        return save(self.session, Path(folder))


def transform(
    session: Session,
    folder: Path | None,
    *,
    packed: Path | None = None,
    verify_each: bool = False,
    instruments: Sequence[Instrument] = (),
) -> Transformed:
    """Run the passes of a session and write report, recipe, settings, manifest and pictures into `folder`, if any.

    With `packed` the pipeline is written there too, its weights packed. Nothing is written before all has run, but a
    reproducer beside `folder` where a pass crashes. `instruments` are told of every pass. Raises `Q2Error`: what does
    not fit before the weights are loaded.
    """
    spent = Spent(session.show)
    show, settings = spent.show, session.settings
    _check(session, folder, packed)
    spent.on("check", spent.total)
    session = session.fork()
    start = time.perf_counter()
    denoiser = session.denoiser
    images = settings.samples.images if denoiser.has_pipeline else 0
    others = bool(settings.components) and denoiser.weights != "meta"
    if images or others or (packed and denoiser.has_pipeline):
        session.load_pipeline()
    show(Step("load", time.perf_counter() - start, f"{denoiser.source} ({denoiser.fingerprint})"))
    start = time.perf_counter()
    graph = session.graph
    weights = sum(layer.weights for layer in graph.weight_layers.values())
    facts = f"{len(graph.fx.nodes)} nodes, {len(graph.weight_layers)} weight layers, {weights / 1e6:.2f} M weights"
    show(Step("trace", time.perf_counter() - start, f"{facts}, {graph.macs / 1e9:.4g} GMACs"))
    bank = open_bank(session)
    if bank is not None:
        show(Step("bank", 0, f"{bank.folder}: {len(bank.plan.options)} options of {len(bank.plan.layers)} layers"))
    ctx, without = session.with_rows(session.context(bank)), _left_out(session)
    passes = [(title, step) for title, step in session.passes if title not in without]
    manager = PassManager(passes, ctx, verify_each, instruments=instruments, where=session.where)
    with session.at():
        manager.check(graph)
    start = time.perf_counter()
    full = _samples(session) if images else None
    results, seconds = [], time.perf_counter() - start
    spent.on("full-precision images", seconds)
    spent.passes()
    with reproducing(session, folder, verify_each=verify_each):
        for result in manager.each(graph):
            results.append(result)
            session.show(Step(result.title, result.seconds, result.report.summary, result.report.tables))
    components = quantize_parts_of(session, denoiser) if others else []
    drift = _drift(session)
    comparison = None
    if full:
        start = time.perf_counter()
        comparison = compare(full, _samples(session), denoiser.judge())
        seconds += time.perf_counter() - start
        spent.on("quantized images", time.perf_counter() - start)
        session.show(Step("samples", seconds, _summary(comparison)))
    recipe, timing = recipe_of(graph, ctx), spent.timing(instruments)
    outcome = Transformed(
        session, results, comparison, recipe, folder, seconds, drift=drift, components=components, timing=timing
    )
    if folder is not None:
        with writing(folder):
            _write(outcome, folder)
    if packed:  # last, so that everything is complete where a second start finds it
        save(session, packed)
    return outcome


def _check(session: Session, folder: Path | None, packed: Path | None) -> None:
    """Raise `Q2Error` for folders that are taken, and for what does not fit, before the weights are loaded."""
    if folder is not None and check_free(folder, RunOf.of(session, "transform")):
        session.show(Step("replaces", 0, f"what a transform wrote in {folder}/ before"))
    if packed:
        check_folder(packed)
    if session.settings.samples.images and session.settings.denoiser.weights != "meta":
        check_asked(session)
    check_passes(session)
    check_parts(session)


def save(session: Session, folder: Path) -> Path:
    """Write the pipeline of a session whose passes have run into `folder`, its weights packed. Raises `Q2Error`."""
    start = time.perf_counter()
    tables = [step.to_table() for _, step in session.passes if step.name == QuantizeActivations.name]
    lost = [name for name in session.graph.rewrites if name != QuantizeActivations.name]
    if lost:
        session.show(Step("save", 0, f"left out: {', '.join(lost)}, which a folder cannot keep"))
    activations = tables[-1] if tables else None
    saved = save_packed(
        session.denoiser,
        folder,
        session.settings.prec,
        session.progress,
        activations,
        original=original_of(session),
        plugins=session.plugins,
    )
    words = f"{folder}/: {saved.files / 1e6:.2f} MB of weights, {saved.packed / 1e6:.2f} MB of them packed"
    session.show(Step("save", time.perf_counter() - start, words))
    return folder


def _drift(session: Session) -> Drift | None:
    """Return how far a recipe's options moved on these weights, and say so."""
    drift = drift_of(session, session.graph)
    if drift:
        session.show(Step("recipe", 0, drift.summary))
    return drift


def _left_out(session: Session) -> list[str]:
    """Say which passes cannot run because weights on meta have no values, and return their titles."""
    if session.denoiser.weights != "meta":
        if session.settings.samples.images and not session.denoiser.has_pipeline:
            session.show(Step("samples", 0, "left out: the checkpoint is a component alone, which makes no images"))
        return []
    for name in session.settings.components:
        session.show(Step("component", 0, f"{name}: left out: it needs weights, and these are on meta"))
    without = [title for title, step in session.passes if session.needs_weights(step)]
    for title in (*without, *(["samples"] if session.settings.samples.images else [])):
        session.show(Step(title, 0, "left out: it needs weights, and these are on meta"))
    return without


def _samples(session: Session) -> Samples:
    wanted = session.settings.samples
    with session.graph.installed():
        return session.denoiser.generate(
            wanted.images, seed=session.settings.seed, batch=wanted.batch, progress=session.progress
        )


def _summary(comparison: Comparison) -> str:
    count, accuracy = len(comparison.full.labels), comparison.accuracy
    if accuracy is None:
        return f"{count} images each"
    noise = "within noise" if accuracy.within_noise else "beyond noise"
    noise += f", but {count} images are few" if accuracy.within_noise and count < FEW else ""
    points = f"difference {100 * accuracy.loss:.1f} ± {100 * accuracy.interval:.1f} points: {noise}"
    return f"{count} images each · recognised {accuracy.full:.1%} → {accuracy.quantized:.1%} ({points})"


def _write(outcome: Transformed, folder: Path) -> None:
    """Write report, recipe, settings, manifest and pictures: all are complete before the first is renamed."""
    session, comparison = outcome.session, outcome.comparison
    pictures = {name: data for result in outcome.results for name, data in result.report.files.items()}
    names = [*pictures, "recipe.toml", "effective.toml", "manifest.json", "report.json"]
    names = ["samples.png", "full.png", "quantized.png", *names] if comparison else names
    with ExitStack() as stack:
        beside = {name: stack.enter_context(replacing(folder / name)) for name in names}
        if comparison:
            title = f"{outcome.denoiser.label} at {outcome.recipe.avg_bits:.2f} bits a weight"
            draw(comparison, title).save(beside["samples.png"], format="PNG")
            sheet([comparison.full.images]).save(beside["full.png"], format="PNG")
            sheet([comparison.quantized.images]).save(beside["quantized.png"], format="PNG")
        for name, data in pictures.items():
            beside[name].write_bytes(data)
        outcome.recipe.save(beside["recipe.toml"])
        session.write_settings(folder, beside["effective.toml"])
        write_json(beside["manifest.json"], manifest(session, outcome.denoiser, "transform"))
        write_json(beside["report.json"], outcome.report)
    outcome.files.extend(folder / name for name in names)
