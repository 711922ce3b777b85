"""Checks before any long computation: of names and settings, then of files, then of shapes on meta."""

from collections.abc import Mapping
from pathlib import Path

from q2.denoisers import Ask
from q2.errors import ConfigError
from q2.passes import PassContext, PassManager, is_transform
from q2.passes.transform.calibrate import Calibrate
from q2.passes.transform.quantize import Quantize
from q2.quant.bank import BankPlan
from q2.search.evaluation.costs import Costs
from q2.search.metrics.costs import OutputError, QuantizedError
from q2.search.objective.constraints import check
from q2.search.strategies.base import Strategy
from q2.session.bank import bank_folder, check_bank
from q2.session.calibrate import check_rows, rows_folder
from q2.session.evaluation import Loader, places_of
from q2.session.problem import engine_of, metrics_of, problem_of, wants_outputs
from q2.session.session import Session

__all__ = ["check_asked", "check_calibration", "check_passes", "check_search"]


def check_asked(session: Session, ask: Ask | None = None) -> None:
    """Raise `ConfigError` for what the denoiser's pipeline cannot be asked for, by its class; nothing is loaded."""
    with session.at():
        session.create_denoiser().check_classes(ask or Ask())


def check_passes(session: Session, *, transforms: bool = False, bank: bool = True) -> None:
    """Raise `ConfigError` for a pass whose options do not fit the denoiser, by its shapes; no weights are loaded.

    With `transforms` only these are looked at. A bank that is there must fit, as far as its index says, unless it is
    not used.
    """
    ctx = PassContext(session.plugins, session.shapes, session.settings.seed, prec=session.settings.prec)
    only = is_transform if transforms else lambda step: True
    manager = PassManager(session.passes, ctx, only=only, where=session.where)
    with session.at():
        manager.check(session.outline)
    for title, step in session.passes:
        seed = session.settings.search.evaluation.seed
        if isinstance(step, Calibrate) and step.seed == seed:
            with session.at("passes", title):
                raise ConfigError(f"seed: {seed} is search.evaluation.seed too: images would be those fitted to")
    if bank and session.is_quantizing:
        check_calibration(session)


def check_calibration(session: Session) -> BankPlan | None:
    """Return what the session's bank has, if it is there; see `check_bank`.

    Raises `ConfigError` also for options that were fitted to outputs where the bank's are fitted to others, or to none.
    """
    plan = check_bank(session, bank_folder(session))
    for _, step in session.passes:
        if isinstance(step, Quantize) and session.settings.denoiser.weights != "meta":
            with session.at():
                step.check_calibration(plan.calibration if plan else "")
    return plan


def check_search(
    session: Session, strategies: Mapping[str, Strategy], folder: Path | None = None, *, bank: bool = True
) -> None:
    """Raise `ConfigError`, with file and key, for what would stop a search and can be known without weights.

    First settings and names, then files, then what follows from shapes: rules of passes, layers of the space,
    constraints that no recipe satisfies, strategies that need more trials. `strategies` go by their tables' names; the
    engine is theirs, and is not looked at without any.
    """
    settings = session.settings
    if settings.denoiser.weights == "meta":
        with session.at("denoiser", "weights"):
            raise ConfigError("'meta' has no values to measure; expected 'pretrained' or 'random'")
    if strategies:
        places = places_of(session, folder or Path())
        with session.at("search", "engine"):
            engine_of(session)(settings.search.engine, Loader(session.run, session), places)
    kinds, _ = metrics_of(session)
    if settings.search.evaluation.fidelity != "weights":
        check_asked(session)
    denoiser = session.create_denoiser()
    for kind in kinds.values():
        with session.at("search"):
            kind.check(denoiser, settings.search.evaluation)
    check_passes(session, transforms=True, bank=False)
    if bank:
        check_bank(session, bank_folder(session, folder), grows=True)
        if wants_outputs(session):
            check_rows(session, rows_folder(session))
    ctx = PassContext(session.plugins, session.shapes, prec=settings.prec)
    costs = Costs.of_graph(session.outline, session.space, ctx, None)
    problem = problem_of(
        session, session.outline, session.space, costs, names=[*costs.tables, QuantizedError.name, OutputError.name]
    )
    with session.at("search", "constraints"):
        check(problem.constraints, costs)
    for title, strategy in strategies.items():
        if problem.space.units and not strategy.keeps_units:
            with session.at("search", "space"):
                raise ConfigError(
                    f"{title!r} chooses layer by layer and ignores variants of units; reduce the space with --level"
                    " node, or use a strategy that keeps them: random, evolution, exhaustive, optuna"
                )
        with session.at("search", "strategies", title):
            strategy.check(problem)
