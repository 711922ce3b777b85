"""A search over lists of settings of a module: the same strategies, engines and trial stores as a recipe's search."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from q2.config import Table, to_toml
from q2.errors import ConfigError, Q2Error, did_you_mean
from q2.files import write_json, write_text
from q2.passes import Step, TextTable
from q2.search.evaluation.costs import Costs
from q2.search.lists import ListSpace
from q2.search.loop import known, run
from q2.search.metrics.modules import MODULE_METRICS
from q2.search.metrics.pareto import pareto_front
from q2.search.objective.target import Target
from q2.search.strategies.base import Objective, Problem
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.session.modules.session import ModuleSession
from q2.session.modules.trials import ModuleLoader, Searched
from q2.session.problem import engine_of, strategy_of
from q2.session.report import manifest, writing
from q2.settings import SearchSettings
from q2.version import version

__all__ = ["ModuleFound", "search_module"]

_STRATEGIES = ("random", "optuna", "evolution", "exhaustive")


@dataclass(frozen=True, eq=False)
class ModuleFound:
    """Trials of a search, the best by the target, and those on the front of its objectives."""

    target: Target
    objectives: tuple[Objective, ...]
    trials: list[Trial]
    failed: list[Trial]
    best: Trial | None
    front: list[Trial]
    files: list[Path] = field(default_factory=list)
    report: dict[str, object] = field(default_factory=dict)

    def table(self) -> TextTable:
        """Return the front, the best marked, with the settings that were chosen."""
        names = list(dict.fromkeys([*self.target.metrics, *(each.metric for each in self.objectives)]))
        rows: list[tuple[str | int | float, ...]] = []
        for trial in self.front:
            mark = " ← best" if self.best is not None and trial.id == self.best.id else ""
            chosen = ", ".join(f"{name} {text}" for name, text in trial.recipe.items())
            rows.append((f"{trial.label}{mark}", *(trial.metrics[name] for name in names), chosen))
        return TextTable(("trial", *names, "settings"), tuple(rows))

    def every(self) -> TextTable:
        """Return all trials with all metrics."""
        settings = list(dict.fromkeys(name for trial in self.trials for name in trial.recipe))
        heads = ("trial", *settings, *MODULE_METRICS)
        rows: tuple[tuple[str | int | float, ...], ...] = tuple(
            (trial.number or 0, *(trial.recipe.get(name, "–") for name in settings),
             *(trial.metrics[name] for name in MODULE_METRICS))
            for trial in self.trials
        )  # fmt: skip
        return TextTable(heads, rows)


def search_module(session: ModuleSession, folder: Path) -> ModuleFound:
    """Search as the run file says, in `folder`, which may hold a part of the search already; write what was found.

    Raises `Q2Error`, one line; what has been measured until then is in the folder's store.
    """
    wanted = session.settings.search
    with session.at("search", "strategy"):
        strategy = strategy_of(session, wanted.strategy)
        if strategy.name not in _STRATEGIES:
            raise ConfigError(f"{strategy.name!r} searches recipes of denoisers; for lists: {', '.join(_STRATEGIES)}")
    searched = Searched(session.fork())
    with session.at("search", "space"):
        space = searched.space
    model = searched.session.model
    problem = _problem(session, searched, space, folder)
    store = TrialStore.open(folder / "trials", _fingerprint(searched.session))
    needed = {problem.fidelity: list(MODULE_METRICS)}
    problem = replace(problem, known=lambda proposal: known(problem, store, needed, wanted.evaluation.seed, proposal))
    session.show(Step("space", 0, f"{space} · target {problem.target}"))
    with session.at("search", "strategies", wanted.strategy):
        strategy.check(problem)
        searcher = strategy.searcher(problem)
    with session.at("search", "engine"):
        engine = engine_of(session)(wanted.engine, ModuleLoader(session.run), {})

    def after(trial: Trial) -> None:
        value = problem.target.finite(trial.metrics) if trial.state == "complete" else None
        for line in session.plugins.after_trial(trial, value, folder):
            session.show(Step("plugin", 0, line))

    with engine:
        engine.warm()
        done = run(
            problem, searcher, engine, store, name=wanted.strategy, needed=needed, seed=wanted.evaluation.seed,
            progress=session.progress, after=after,
        )  # fmt: skip
    session.show(Step(wanted.strategy, done.wall, f"{len(done.trials)} trials, {done.measured} measured now"))
    found = _found(problem, done.trials)
    with writing(folder):
        _write(searched, space, found, folder)
    assert model is searched.session.model
    return found


def _problem(session: ModuleSession, searched: Searched, space: ListSpace, folder: Path) -> Problem:
    wanted = session.settings.search
    names = list(MODULE_METRICS)
    for name in wanted.metrics:
        if name not in MODULE_METRICS:
            with session.at("search", "metrics", name):
                near = did_you_mean(name, names)
                raise ConfigError(f"no metric named {name!r} for a module{near} (there are: {', '.join(names)})")
    objectives = tuple(Objective(name, each.direction, each.scale) for name, each in wanted.metrics.items())
    with session.at("search", "target"):
        target = Target.parse(_target(wanted, objectives), names)
    if wanted.constraints:
        with session.at("search", "constraints"):
            raise ConfigError("constraints are on sums over a recipe's layers; for lists, put them into the target")
    measured = {wanted.evaluation.fidelity: names}
    return Problem(
        space, _costs(space, searched), target, searched.graph, wanted.trials, session.settings.seed,
        wanted.evaluation.fidelity, (), objectives, wanted.build, folder, session.progress, session.show, measured,
    )  # fmt: skip


def _target(wanted: SearchSettings, objectives: Sequence[Objective]) -> str:
    """Return the run file's target, else the scaled sum of the objectives, else accuracy."""
    if wanted.target != SearchSettings().target:
        return wanted.target
    signs = {"maximize": "+", "minimize": "-"}
    terms = [f"{signs[each.direction]} {each.metric} / {each.scale!r}" for each in objectives]
    return f"0 {' '.join(terms)}" if terms else "accuracy"


def _costs(space: ListSpace, searched: Searched) -> Costs:
    """Return what is a sum over the choices: average bits, by the lists of weights' widths alone."""
    total = max(sum(layer.weights for layer in searched.graph.weight_layers.values()), 1)
    rows, most = [], len(space.options)
    for choice in space.choices:
        widths = choice.name.endswith(":weight_width")
        row = [_number(text) * choice.weights / total if widths else 0.0 for text in space.options]
        rows.append(row)
    table = np.array(rows, np.float64).reshape(len(space), most)
    return Costs(space, {"avg_bits": table}, {"avg_bits": 0.0})


def _number(text: str) -> float:
    value = json.loads(text)
    return float(value) if isinstance(value, int | float) else 0.0


def _fingerprint(session: ModuleSession) -> Fingerprint:
    """Return what trials must share: the module, its data and how it is measured."""
    settings = session.settings
    measured: Table = {
        "runner": settings.search.runner.model_dump(mode="json"),
        "data": settings.data.model_dump(mode="json"),
    }
    measured["data"].pop("workers")
    measured["space"] = {key: settings.search.space.model_dump(mode="json")[key] for key in ("transform",)}
    measured["passes"] = {title: step.to_table() for title, step in session.passes}
    if settings.search.runner.name == "train":
        measured["train"] = settings.train.model_dump(mode="json") | {"seed": settings.seed}
    return Fingerprint(session.model.label, session.model.fingerprint, version(), measured)


def _found(problem: Problem, trials: Sequence[Trial]) -> ModuleFound:
    own = list({trial.id: trial for trial in trials}.values())
    complete = [trial for trial in own if trial.state == "complete"]
    failed = [trial for trial in own if trial.state == "failed"]
    if not complete:
        raise Q2Error(f"all {len(failed)} trials failed, the first: {failed[0].error}" if failed else "no trial")
    best = complete[int(np.argmax(problem.values(complete)))]
    objectives = problem.objectives or (Objective("accuracy", "maximize"), Objective("bitops", "minimize"))
    signs: Mapping[str, int] = {"maximize": -1, "minimize": 1}
    costs = [[signs[each.direction] * trial.metrics[each.metric] for each in objectives] for trial in complete]
    front = [trial for trial, on in zip(complete, pareto_front(costs), strict=True) if on]
    if best.id not in {trial.id for trial in front}:
        front.append(best)
    front.sort(key=lambda trial: trial.metrics[objectives[-1].metric])
    return ModuleFound(problem.target, problem.objectives, complete, failed, best, front)


def _write(searched: Searched, space: ListSpace, found: ModuleFound, folder: Path) -> None:
    """Write the report, all trials, and the best configuration as rules of a run file."""
    session, transform = searched.session, searched.session.settings.search.space.transform
    found.report.update(
        {
            "q2": version(),
            "model": {"name": session.model.label, "fingerprint": session.model.fingerprint},
            "space": str(space),
            "target": str(found.target),
            "trials": {"complete": len(found.trials), "failed": len(found.failed)},
            "front": [{"recipe": dict(trial.recipe), "metrics": dict(trial.metrics)} for trial in found.front],
        }
    )
    names = ["report.json", "effective.toml", "manifest.json"]
    write_json(folder / "report.json", found.report)
    session.write_settings(folder)
    write_json(folder / "manifest.json", manifest(session, session.model, "search"))
    if found.best is not None:
        rules = {layer: {"config": table} for layer, table in space.configs(found.best.recipe).items()}
        plain = {
            k: each for k, each in rules.items() if str(each["config"].get("name", "")).lower() not in ("na", "none")
        }
        settings = session.settings
        table: Table = {"seed": settings.seed, "model": settings.model.model_dump(mode="json", exclude_defaults=True)}
        table["data"] = settings.data.model_dump(mode="json", exclude_defaults=True)
        table["passes"] = {transform: {"by": "name", **plain}}
        write_text(folder / "best.toml", to_toml(table))
        names.insert(0, "best.toml")
    found.files.extend(folder / name for name in names)
