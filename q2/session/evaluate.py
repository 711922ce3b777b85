"""One given recipe, measured with the metrics of a search."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from q2.config import RunFile
from q2.errors import RecipeError, TrialError, did_you_mean
from q2.quant import Option, Recipe
from q2.search.evaluation.jobs import Job
from q2.search.trials.trial import Trial
from q2.session.checks import check_search
from q2.session.evaluation import evaluator_of, load, make_ready, make_reference
from q2.session.session import Session

__all__ = ["evaluate"]

Given = Recipe | Mapping[str, str] | str | Path


def evaluate(session: Session, recipe: Given, metrics: Sequence[str] = (), folder: Path | None = None) -> Trial:
    """Return what the run's metrics, and those named, say of a recipe: a file, or layer to option.

    Layers that the recipe does not name stay as they are. Full precision's side is kept in `folder`, where one is
    given, for the next recipe. Raises `Q2Error`, also where the evaluation fails.
    """
    layers = options_of(recipe)
    session = _measuring(session, layers, metrics)
    unknown = next((name for name in layers if name not in session.outline.choices), None)
    if unknown is not None:
        near = did_you_mean(unknown, session.outline.choices)
        raise RecipeError(f"recipe: {session.title} has no layer {unknown!r}{near}")
    check_search(session, {}, folder)
    with TemporaryDirectory() as scratch:
        place, fidelity = folder or Path(scratch), session.settings.search.evaluation.fidelity
        loaded = load(session)
        make_reference(loaded, place, [fidelity])
        ready = make_ready(loaded, None)
        complete = {name: layers.get(name, "none") for name in ready.space.layers}
        seed = session.settings.search.evaluation.seed
        trial = evaluator_of(ready, place / "reference")(Job(complete, fidelity, seed)).trial
    if trial.state == "failed":
        raise TrialError(f"the recipe cannot be evaluated: {trial.error}")
    return trial


def options_of(recipe: Given) -> dict[str, str]:
    """Return layer to option of a recipe, in whatever form it is given. Raises `RecipeError`, `OptionError`."""
    if isinstance(recipe, str | Path):
        recipe = Recipe.load(Path(recipe))
    if isinstance(recipe, Recipe):
        return {name: str(option) for name, option in recipe.layers.items()}
    return {name: str(Option.parse(option)) for name, option in recipe.items()}


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
    return replace(session, run=run)
