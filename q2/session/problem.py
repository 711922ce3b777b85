"""What a search optimizes, by its run file: metrics, target, constraints, strategy, engine."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from q2.errors import ConfigError, there_are
from q2.search.engines.base import Engine
from q2.search.evaluation.costs import Costs
from q2.search.kinds import ENGINES, METRICS, STRATEGIES
from q2.search.metrics.base import LADDER, Metric, metrics_at
from q2.search.metrics.costs import OutputError
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Objective, Problem, Strategy
from q2.session.session import Session, quiet
from q2.settings import Fidelity

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = [
    "check_settings",
    "constraints_of",
    "engine_of",
    "measured_at",
    "metrics_of",
    "problem_of",
    "strategies_of",
    "strategy_of",
    "wants_outputs",
]


def constraints_of(session: Session, names: Sequence[str]) -> tuple[Constraint, ...]:
    """Return the bounds that the run file says on the sums called `names`, each once. Raises `ConfigError`."""
    wanted = session.settings.search
    texts = (*wanted.constraints, *([f"avg_bits <= {wanted.build.avg_bits}"] if wanted.build.avg_bits else []))
    return tuple(Constraint.parse(text, names) for text in dict.fromkeys(texts))


def engine_of(session: Session) -> type[Engine]:
    """Return the engine that the run file names. Raises `ConfigError`."""
    with session.at("search", "engine", "name"):
        return session.plugins.of(ENGINES).load(session.settings.search.engine.name)


def strategy_of(session: Session, title: str) -> Strategy:
    """Return the strategy of a name, with its options. Raises `ConfigError`."""
    table = dict(session.settings.search.strategies.get(title, {}))
    name = str(table.pop("strategy", title))
    with session.at("search", "strategy"):
        kind = session.plugins.of(STRATEGIES).load(name)
    return kind.from_table(table, lambda key: session.run.where(("search", "strategies", title, *key)))


def strategies_of(session: Session, titles: Sequence[str]) -> dict[str, Strategy]:
    """Return the strategies that `titles` name. Raises `ConfigError`."""
    if len(set(titles)) < len(titles) or not titles:
        raise ConfigError(f"strategies {','.join(titles)}: expected one or more, all different")
    known = {*session.plugins.of(STRATEGIES), *session.settings.search.strategies}
    for title in titles:
        if title not in known:
            raise ConfigError(f"strategies: no strategy named {title!r}{there_are(title, known)}")
    return {title: strategy_of(session, title) for title in titles}


def check_settings(session: Session, strategies: Sequence[str] = ()) -> None:
    """Raise `ConfigError` for what is wrong in a search's settings, whatever the denoiser.

    Strategies, reduced spaces, constraints and target need no torch; metrics, which may, come last.
    """
    for title in strategies or (session.settings.search.strategy,):
        strategy_of(session, title)
    session.reduced_space()
    with session.at("search", "constraints"):
        constraints_of(session, list(session.plugins.of(METRICS)))
    metrics_of(session, strategies)


def metrics_of(session: Session, strategies: Sequence[str] = ()) -> tuple[dict[str, type[Metric]], Target]:
    """Return the metrics that the run and its `strategies` name, and the target.

    The strategies go by their tables' names; without any it is the run's own. Raises `ConfigError` for a metric that
    does not exist, or that the run's fidelity does not measure.
    """
    wanted, catalogue = session.settings.search, session.plugins.of(METRICS)
    parse = partial(Target.parse, metrics=list(catalogue))
    with session.at("search", "target"):
        target = parse(wanted.target)
    names = dict.fromkeys((*target.metrics, *wanted.metrics))
    with session.at("search", "evaluation", "metrics"):
        names |= dict.fromkeys(name for name in wanted.evaluation.metrics if catalogue.load(name))
    for name in wanted.metrics:
        with session.at("search", "metrics", name):
            catalogue.load(name)
    for title in strategies or (wanted.strategy,):
        for key, text in strategy_of(session, title).expressions().items():
            with session.at("search", "strategies", title, key):
                names |= dict.fromkeys(parse(text).metrics)
    with session.at("search"):
        kinds = {name: catalogue.load(name) for name in names}
    at = metrics_at(wanted.evaluation.fidelity, list(kinds.values()))
    needs = dict.fromkeys(wanted.metrics, "objectives") | dict.fromkeys(target.metrics, "target")
    for name, what in needs.items():
        if kinds[name] not in at:
            where = session.run.where(("search", "evaluation", "fidelity"))
            raise ConfigError(f"{where}: {wanted.evaluation.fidelity!r} does not measure {name!r} of the {what}")
    return kinds, target


def wants_outputs(session: Session) -> bool:
    """Return whether the target, metrics, constraints or strategy need output errors. Raises `ConfigError`.

    >>> from q2.config import RunFile
    >>> wants_outputs(Session(RunFile.load("digits-dit.toml", ["search.target=0-output_error"])))
    True
    """
    kinds, _ = metrics_of(session)
    with session.at("search", "constraints"):
        bounds = constraints_of(session, list(session.plugins.of(METRICS)))
    return OutputError.name in (*kinds, *(bound.metric for bound in bounds))


def measured_at(kinds: Mapping[str, type[Metric]]) -> dict[Fidelity, list[str]]:
    """Return the names of the metrics that a trial at every fidelity must have."""
    return {fidelity: [kind.name for kind in metrics_at(fidelity, list(kinds.values()))] for fidelity in LADDER}


def problem_of(  # noqa: PLR0917 (what a problem is made of)
    session: Session,
    graph: "Graph",
    space: Space,
    costs: Costs,
    folder: Path | None = None,
    names: Sequence[str] | None = None,
) -> Problem:
    """Return what a search by the run file looks for, in `space`, in `folder`. Raises `ConfigError`.

    Constraints may be on the sums called `names`; of these, the ones that `costs` has are kept. Without a folder the
    problem is there to be looked at, and shows nothing.
    """
    wanted = session.settings.search
    kinds, target = metrics_of(session)
    with session.at("search", "constraints"):
        bounds = constraints_of(session, names or list(costs.tables))
    return Problem(
        space,
        costs,
        target,
        graph,
        wanted.trials,
        session.settings.seed,
        wanted.evaluation.fidelity,
        tuple(bound for bound in bounds if bound.metric in costs.tables),
        tuple(Objective(name, each.direction, each.scale) for name, each in wanted.metrics.items()),
        wanted.build,
        folder or Path(),
        session.progress,
        session.show if folder else quiet,
        {fidelity: [*costs.tables, *measured] for fidelity, measured in measured_at(kinds).items()},
    )
