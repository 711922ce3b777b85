"""Given recipes, measured with the metrics of a search; several are compared in pairs, from the same noise."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from q2.config import RunFile
from q2.errors import TrialError
from q2.files import write_json
from q2.passes import PassContext, Step
from q2.passes.transform.quantize import Quantize
from q2.search.evaluation.baselines import full_precision, uncompressed
from q2.search.evaluation.evaluator import Evaluator, Kept
from q2.search.evaluation.jobs import Job
from q2.search.evaluation.reference import Reference
from q2.search.kinds import METRICS
from q2.search.metrics.costs import OutputError, QuantizedError
from q2.search.trials.trial import Trial
from q2.session.bank import bank_folder, open_bank
from q2.session.checks import check_calibration, check_search
from q2.session.drift import applied_recipe, drift_of
from q2.session.evaluated import Evaluation, differences
from q2.session.evaluation import Ready, evaluator_of, load, make_ready, make_reference
from q2.session.folder import MANIFEST, RunOf, check_free
from q2.session.report import manifest, writing
from q2.session.saved_evaluation import SavedDenoiser
from q2.session.session import Given, Session

__all__ = ["evaluate", "evaluate_all"]


def evaluate(session: Session, recipe: Given, metrics: Sequence[str] = (), folder: Path | None = None) -> Trial:
    """Return what the run's metrics, and those named, say of a recipe: a file, or layer to option.

    See `evaluate_all`. Raises `Q2Error`, also where the evaluation fails.
    """
    return evaluate_all(session, {"the recipe": recipe}, (), metrics, folder).trials["the recipe"]


def evaluate_all(
    session: Session,
    recipes: Mapping[str, Given],
    saved: Sequence[Path] = (),
    metrics: Sequence[str] = (),
    folder: Path | None = None,
) -> Evaluation:
    """Return what the run's metrics, and those named, say of recipes and of folders that ``--save`` wrote.

    All start from the same noise, so each is compared with the first in pairs. Layers that a recipe does not name stay
    as they are. Full precision's side is kept in `folder`, where one is given, for the next recipe, with a report.
    Raises `Q2Error`, also where an evaluation fails.
    """
    for name in metrics:
        session.plugins.of(METRICS).load(name)
    if folder is not None:
        check_free(folder, RunOf.of(session, "evaluate"))
    sessions = {title: session.with_recipe(recipe) for title, recipe in recipes.items()}
    layers = {title: _options(given) for title, given in sessions.items()}
    plans = [check_calibration(given) for given in sessions.values()]
    place_of_bank = bank_folder(next(iter(sessions.values()), session))
    usual = not session.settings.bank.path and place_of_bank == bank_folder(session)
    others = {str(each): SavedDenoiser.load(session, each) for each in saved}
    session = _measuring(session, [*layers.values(), *(other.layers for other in others.values())], metrics)
    check_search(session, {}, folder, bank=False)
    with _place(folder) as place:
        fidelity = session.settings.search.evaluation.fidelity
        loaded = load(session)
        for title, each in sessions.items():
            if drift := drift_of(loaded.session, None, applied_recipe(each)):
                session.show(Step("recipe", 0, f"{title}: {drift.summary}"))
        wanted = {option for each in layers.values() for option in each.values()}
        fits = bool(plans) and all(plan is not None and wanted <= {"none", *plan.options} for plan in plans)
        make_reference(loaded, place, [fidelity])
        ready = make_ready(loaded, open_bank(loaded.session, None if usual else place_of_bank) if fits else None)
        _check_errors(ready)
        reference = Reference(place / "reference", session.settings.search.evaluation)
        trials: dict[str, Trial] = {}
        kept: dict[str, Kept] = {}
        evaluator = evaluator_of(ready, reference.folder)
        for title, given in layers.items():
            trials[title], kept[title] = _measured(ready, evaluator, given, title)
        for title, other in others.items():
            trials[title], kept[title] = _measured(ready, other.evaluator(ready, reference), other.layers, title)
        sums = uncompressed(ready.graph, ready.space, ready.ctx, ready.ctx.bank)
        full = full_precision(reference, ready.metrics, ready.space, sums, fidelity)
        found = Evaluation(trials, full, differences(ready.metrics, trials, kept, reference, fidelity), ready.kinds)
        if folder is not None:
            with writing(folder):
                write_json(folder / MANIFEST, manifest(session, ready.denoiser, "evaluate"))
                write_json(folder / "report.json", found.report)
    return found


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or one for the time being."""
    if folder is not None:
        yield folder
        return
    with TemporaryDirectory() as scratch:
        yield Path(scratch)


def _measured(ready: Ready, evaluator: Evaluator, layers: Mapping[str, str], title: str) -> tuple[Trial, Kept]:
    settings = ready.session.settings.search.evaluation
    complete = {name: layers.get(name, "none") for name in ready.space.layers}
    evaluator.kept = kept = Kept()
    trial = evaluator(Job(complete, settings.fidelity, settings.seed)).trial
    if trial.state == "failed":
        raise TrialError(f"{title} cannot be evaluated: {trial.error}")
    ready.session.show(Step("evaluate", trial.seconds, f"{title}: {trial.metrics['avg_bits']:.3f} bits a weight"))
    return trial, kept


def _check_errors(ready: Ready) -> None:
    """Raise `TrialError` for metrics that follow from a bank where there is none for the recipes."""
    for name in (QuantizedError.name, OutputError.name):
        if name in ready.kinds and name not in ready.costs.tables:
            first = "q2 calibrate, then " if name == OutputError.name else ""
            raise TrialError(
                f"metric {name!r}: follows from a bank with the recipe's options; {first}q2 bank makes one"
            )


def _options(session: Session) -> dict[str, str]:
    """Return the option of every choice that a session's recipe names, as `quantize` reads it. Raises `Q2Error`."""
    step = next(step for _, step in session.passes if isinstance(step, Quantize))
    ctx = PassContext(session.plugins, session.shapes, prec=session.settings.prec)
    return {name: str(option) for name, option in step.plan(session.outline, ctx).items()}


def _measuring(session: Session, recipes: Sequence[Mapping[str, str]], metrics: Sequence[str]) -> Session:
    """Return a session that searches among the recipes' options alone, and measures more metrics."""
    options = list(dict.fromkeys([*(option for layers in recipes for option in layers.values()), "none"]))
    tables = dict(session.run.overrides)
    search = dict(tables.get("search", {}))
    evaluation = dict(search.get("evaluation", {}))
    names = dict.fromkeys((*session.settings.search.evaluation.metrics, *metrics))
    search |= {"options": options, "evaluation": {**evaluation, "metrics": list(names)}}
    search |= {"ties": False, "constraints": [], "layers": {}, "build": {"avg_bits": 0.0}}
    search |= {"strategy": "random"}  # none is asked, and none needs metrics of its own
    file = {key: value for key, value in session.run.file.items() if key != "search"}
    own = {key: value for key, value in session.run.file.get("search", {}).items() if key not in ("layers", "build")}
    run: RunFile = replace(session.run, file=file | {"search": own}, overrides=tables | {"search": search})
    return session.with_run(run)
