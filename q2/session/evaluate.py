"""One given recipe, measured with the metrics of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from q2.config import RunFile
from q2.errors import TrialError
from q2.passes import PassContext, Step
from q2.passes.transform.quantize import Quantize
from q2.search.evaluation.jobs import Job
from q2.search.kinds import METRICS
from q2.search.metrics.costs import OutputError, QuantizedError
from q2.search.trials.trial import Trial
from q2.session.bank import bank_folder, open_bank
from q2.session.checks import check_calibration, check_search
from q2.session.drift import applied_recipe, drift_of
from q2.session.evaluation import evaluator_of, load, make_ready, make_reference
from q2.session.session import Given, Session

__all__ = ["evaluate"]


def evaluate(session: Session, recipe: Given, metrics: Sequence[str] = (), folder: Path | None = None) -> Trial:
    """Return what the run's metrics, and those named, say of a recipe: a file, or layer to option.

    Layers that the recipe does not name stay as they are. Full precision's side is kept in `folder`, where one is
    given, for the next recipe. Raises `Q2Error`, also where the evaluation fails.
    """
    for name in metrics:
        session.plugins.of(METRICS).load(name)
    given = session.with_recipe(recipe)
    layers = _options(given)
    there, place_of_bank = check_calibration(given), bank_folder(given)
    usual = not given.settings.bank.path and place_of_bank == bank_folder(session)
    session = _measuring(session, layers, metrics)
    check_search(session, {}, folder, bank=False)
    with TemporaryDirectory() as scratch:
        place, fidelity = folder or Path(scratch), session.settings.search.evaluation.fidelity
        loaded = load(session)
        if drift := drift_of(loaded.session, None, applied_recipe(given)):
            session.show(Step("recipe", 0, drift.summary))
        fits = there is not None and {*layers.values()} <= {"none", *there.options}
        make_reference(loaded, place, [fidelity])
        ready = make_ready(loaded, open_bank(loaded.session, None if usual else place_of_bank) if fits else None)
        for name in (QuantizedError.name, OutputError.name):
            if name in ready.kinds and name not in ready.costs.tables:
                kind = "calibrated bank" if name == OutputError.name else "bank"
                raise TrialError(f"metric {name!r}: follows from a {kind} with the recipe's options; q2 bank makes one")
        complete = {name: layers.get(name, "none") for name in ready.space.layers}
        seed = session.settings.search.evaluation.seed
        trial = evaluator_of(ready, place / "reference")(Job(complete, fidelity, seed)).trial
    if trial.state == "failed":
        raise TrialError(f"the recipe cannot be evaluated: {trial.error}")
    return trial


def _options(session: Session) -> dict[str, str]:
    """Return the option of every choice that a session's recipe names, as `quantize` reads it. Raises `Q2Error`."""
    step = next(step for _, step in session.passes if isinstance(step, Quantize))
    ctx = PassContext(session.plugins, session.shapes, prec=session.settings.prec)
    return {name: str(option) for name, option in step.plan(session.outline, ctx).items()}


def _measuring(session: Session, layers: Mapping[str, str], metrics: Sequence[str]) -> Session:
    """Return a session that searches among the recipe's options alone, and measures more metrics."""
    options = list(dict.fromkeys([*layers.values(), "none"]))
    tables = dict(session.run.overrides)
    search = dict(tables.get("search", {}))
    evaluation = dict(search.get("evaluation", {}))
    names = dict.fromkeys((*session.settings.search.evaluation.metrics, *metrics))
    search |= {"options": options, "evaluation": {**evaluation, "metrics": list(names)}}
    search |= {"ties": False, "constraints": [], "layers": {}, "build": {"avg_bits": 0.0}}
    file = {key: value for key, value in session.run.file.items() if key != "search"}
    own = {key: value for key, value in session.run.file.get("search", {}).items() if key not in ("layers", "build")}
    run: RunFile = replace(session.run, file=file | {"search": own}, overrides=tables | {"search": search})
    return session.with_run(run)
