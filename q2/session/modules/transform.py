"""A transform of a module: its passes, and its scores before and after."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from q2.files import write_json
from q2.graph import Graph
from q2.models.evaluation import Score, evaluate
from q2.models.model import Model
from q2.passes import Instrument, PassManager, PassResult, Step, pipeline_text
from q2.session.modules.saving import save_graph
from q2.session.modules.session import ModuleSession
from q2.session.report import manifest, writing
from q2.session.reproducer import reproducing
from q2.session.timing import Spent, TimeSpent
from q2.version import version

__all__ = ["ModuleTransformed", "transform_module"]


@dataclass(frozen=True, eq=False)
class ModuleTransformed:
    """What a transform gave: the module and its graph, what the passes said, the scores on the test split."""

    session: ModuleSession
    results: list[PassResult]
    before: Score | None
    after: Score | None
    files: list[Path] = field(default_factory=list)
    timing: TimeSpent | None = None

    @property
    def model(self) -> Model:
        """The module, transformed, with its data."""
        return self.session.model

    @property
    def graph(self) -> Graph:
        """Its graph."""
        return self.session.graph

    @property
    def report(self) -> dict[str, object]:
        """What ``report.json`` holds."""
        report: dict[str, object] = {
            "q2": version(),
            "model": {"name": self.model.label, "fingerprint": self.model.fingerprint},
            "pass_pipeline": pipeline_text([(each.title, each.step) for each in self.results if not each.needed_by]),
            "passes": {
                each.title: {"seconds": round(each.seconds, 3), "summary": each.report.summary, **each.report.data}
                for each in self.results
            },
        }
        if self.timing:
            report["timing"] = self.timing.data
        if self.before and self.after:
            report["test"] = {"before": asdict(self.before), "after": asdict(self.after)}
        return report


def transform_module(
    session: ModuleSession,
    folder: Path | None,
    *,
    save: Path | None = None,
    verify_each: bool = False,
    instruments: Sequence[Instrument] = (),
) -> ModuleTransformed:
    """Run the passes of a session over its module and write report, settings, manifest and pictures into `folder`.

    With data the module is evaluated on the test split before and after; with `save` the graph is written there.
    `instruments` are told of every pass. Raises `Q2Error`, before anything is written but a reproducer beside `folder`.
    """
    session, spent = session.fork(), Spent(session.show)
    show = spent.show
    start = time.perf_counter()
    model = session.model
    show(Step("load", time.perf_counter() - start, f"{model.label}: {model.source} ({model.fingerprint})"))
    start = time.perf_counter()
    graph = session.graph
    facts = f"{len(graph.fx.nodes)} nodes, {len(graph.weight_layers)} weight layers"
    show(Step("trace", time.perf_counter() - start, facts))
    ctx = session.context()
    manager = PassManager(session.passes, ctx, verify_each, instruments=instruments, where=session.where)
    with session.at():
        manager.check(graph)
    before = _score(session, "before")
    spent.on("evaluation before", before.seconds if before else 0)
    spent.passes()
    results = []
    with reproducing(session, folder, verify_each=verify_each):
        for result in manager.each(graph):
            results.append(result)
            session.show(Step(result.title, result.seconds, result.report.summary, result.report.tables))
    after = _score(session, "after") if before else None
    spent.on("evaluation after", after.seconds if after else 0)
    outcome = ModuleTransformed(session, results, before, after, timing=spent.timing(instruments))
    if save is not None:
        save_graph(graph, session.settings.model, save)
        show(Step("save", 0, f"{save}/"))
    if folder is not None:
        with writing(folder):
            _write(outcome, folder)
    return outcome


def _score(session: ModuleSession, when: str) -> Score | None:
    model = session.model
    if model.data is None:
        return None
    with session.at("data"), session.graph.installed():
        score = evaluate(model.module, model.data, "test")
    line = f"accuracy {score.accuracy:.4f}, loss {score.loss:.4f} on {score.samples} test samples"
    session.show(Step(when, score.seconds, line))
    return score


def _write(outcome: ModuleTransformed, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {name: data for result in outcome.results for name, data in result.report.files.items()}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    outcome.session.write_settings(folder)
    write_json(folder / "manifest.json", manifest(outcome.session, outcome.model, "transform"))
    write_json(folder / "report.json", outcome.report)
    names = [*pictures, "effective.toml", "manifest.json", "report.json"]
    outcome.files.extend(folder / name for name in names)
