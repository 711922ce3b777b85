"""Trials of Qua²SeDiMo's code for a q2 store: its recipes and metrics, with sizes that are worked out again."""

from dataclasses import dataclass, replace
from pathlib import Path

from q2.errors import Q2Error, TrialError
from q2.graph import Graph, trace
from q2.passes import PassContext
from q2.search.evaluation.costs import Costs
from q2.search.space import Space
from q2.search.trials.legacy import read_legacy
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from q2.session.transform import Plan, load_denoiser
from q2.version import version

__all__ = ["Imported", "import_legacy"]


@dataclass(frozen=True)
class Imported:
    """What was taken in: `new` records of `trials`; `difference` is the largest of the file's avg_bits to q2's."""

    new: int
    trials: int
    difference: float | None


def import_legacy(plan: Plan, place: Path, path: Path) -> Imported:
    """Add the trials of a ``quant_cache.pkl`` or ``quant_configs/*.pkl`` to the store at `place`; make it if need be.

    The denoiser is the plan's, on meta: average bits, sizes and BOPs are worked out from the recipes. What the recipes
    do not name stays at full precision. A store made for them has a fingerprint of its own, for the reference measures
    in its own way. Raises `TrialError`, one line with file and entry, and leaves the store as it was.
    """
    found = read_legacy(path)
    denoiser = load_denoiser(plan.with_weights("meta"))
    graph = trace(denoiser.model, denoiser.example_inputs())
    ctx = PassContext(plan.plugins, denoiser, prec=plan.settings.prec)
    costs: dict[tuple[str, ...], Costs] = {}
    trials, differences = [], []
    for index, trial in enumerate(found):
        try:
            sizes = _costs(graph, ctx, trial, found, costs).metrics(trial.recipe)
        except Q2Error as error:
            raise TrialError(f"{path}: entry {index}: {error}") from error
        if "avg_bits" in trial.metrics:
            differences.append(abs(trial.metrics["avg_bits"] - sizes["avg_bits"]))
        trials.append(replace(trial, metrics={**trial.metrics, **sizes}))
    store = _opened(place, Fingerprint(denoiser.label, denoiser.fingerprint, version(), {"protocol": "reference"}))
    return Imported(store.extend(trials), len(trials), max(differences, default=None))


def _costs(
    graph: Graph, ctx: PassContext, trial: Trial, found: list[Trial], known: dict[tuple[str, ...], Costs]
) -> Costs:
    """Return the costs of recipes of the trial's layers; worked out once."""
    layers = tuple(sorted(trial.recipe))
    if layers not in known:
        everything = Space.of({name: choice.weights for name, choice in graph.choices.items()}, ["none"])
        everything.encode(dict.fromkeys(everything.layers, "none") | dict.fromkeys(layers, "none"))
        options = dict.fromkeys(option for each in found for option in each.recipe.values())
        space = Space.of({name: graph.choices[name].weights for name in layers}, list(options))
        known[layers] = Costs.of_graph(graph, space, ctx, None)
    return known[layers]


def _opened(place: Path, fingerprint: Fingerprint) -> TrialStore:
    """Return the store at a place if it is of the denoiser; what measured its trials is the user's to know."""
    if not (place / "store.json").exists():
        return TrialStore.open(place, fingerprint)
    store = TrialStore.read(place)
    if store.fingerprint.denoiser != fingerprint.denoiser:
        raise TrialError(f"{place}: trials of {store.fingerprint.denoiser}, not of {fingerprint.denoiser}")
    return store
