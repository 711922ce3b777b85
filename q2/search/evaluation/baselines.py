"""What every search is compared with: each option everywhere, and full precision."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from q2.errors import TrialError
from q2.files import read_json, write_json
from q2.passes import PassContext
from q2.quant.options import Option
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.reference import Reference
from q2.search.metrics.base import Array, Chunk, ForwardMetric, FreeMetric, ImageMetric, Metric, Outputs, metrics_at
from q2.search.metrics.contract import estimate_of, named_metric, rows_of, value_of
from q2.search.metrics.intervals import Estimate
from q2.search.space import Space
from q2.search.trials.trial import FULL_PRECISION, Trial
from q2.settings import Fidelity

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.quant.bank import Bank

__all__ = ["full_precision", "uncompressed", "uniform"]

_NONE = "none"


def uniform(space: Space) -> dict[str, dict[str, str]]:
    """Return a recipe for every option of a space but ``none``: that option wherever a choice may take it, by name.

    A choice that may not takes the option nearest in width, a wider one before a narrower; the name says how many of
    the weight layers have the option. Of equal recipes the first is kept.

    >>> space = Space.of({"q": 1, "k": 1}, ["uaq-4", "uaq-3", "none"]).limited({"k": ["uaq-4"]})
    >>> uniform(space)
    {'uaq-4 everywhere': {'q': 'uaq-4', 'k': 'uaq-4'}, 'uaq-3 in 1 of 2 layers': {'q': 'uaq-3', 'k': 'uaq-4'}}
    """
    found: dict[str, dict[str, str]] = {}
    for option in space.options:
        if option == _NONE:
            continue
        recipe = {layer: _nearest(option, space.choices[place].options) for layer, place in space.layers.items()}
        count = sum(chosen == option for chosen in recipe.values())
        where = "everywhere" if count == len(recipe) else f"in {count} of {len(recipe)} layers"
        if recipe not in found.values():
            found[f"{option} {where}"] = recipe
    return found


def uncompressed(graph: "Graph", space: Space, ctx: PassContext, bank: "Bank | None") -> dict[str, float]:
    """Return the sums over layers of the denoiser as it is; see `Costs`."""
    plain = Space(tuple(replace(choice, options=(_NONE,)) for choice in space.choices))
    costs = Costs.of_graph(graph, plain, ctx, bank)
    return costs.metrics(dict.fromkeys(plain.layers, _NONE))


def full_precision(
    reference: Reference,
    metrics: list[Metric],
    space: Space,
    sums: dict[str, float],
    fidelity: Fidelity,
) -> Trial:
    """Return what the metrics say of full precision, from its images and outputs that the reference holds.

    Its ratios to its own noise are at their limit. Metrics that have no finite value for it are left out, and so is the
    time of a pass, which was not measured. Kept beside the reference for the next time.
    """
    wanted = [metric for metric in metrics if type(metric) in metrics_at(fidelity, [type(each) for each in metrics])]
    names = [*sums, *(metric.name for metric in wanted)]
    path = reference.folder / fidelity / "full-precision.json"
    kept = _kept(path, names)
    if kept is not None:
        return kept
    found: dict[str, Estimate] = {name: estimate_of(value) for name, value in sums.items()}
    for metric in wanted:
        with suppress(TrialError), named_metric(metric.name, metric.owner):
            if isinstance(metric, FreeMetric):
                found[metric.name] = estimate_of(metric.value(sums))
            elif isinstance(metric, ForwardMetric):
                found[metric.name] = estimate_of(metric.value(_outputs(reference)), metric.bounds)
    images = [metric for metric in wanted if isinstance(metric, ImageMetric)]
    if images:
        found |= _images(reference, images, fidelity)
    estimates = {metric.name for metric in wanted if metric.estimate}
    trial = Trial(
        dict.fromkeys(space.layers, _NONE),
        {name: estimate.value for name, estimate in found.items()},
        {name: (estimate.low, estimate.high) for name, estimate in found.items() if name in estimates},
        fidelity,
        reference.settings.seed,
        strategy=FULL_PRECISION,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"metrics": names, "trial": trial.table()})
    return trial


def _kept(path: Path, names: list[str]) -> Trial | None:
    try:
        table = read_json(path)
        return Trial(**table["trial"]) if set(names) <= set(table["metrics"]) else None
    except (OSError, ValueError, KeyError, TypeError, TrialError):
        return None


def _outputs(reference: Reference) -> Outputs:
    """Return full precision's outputs beside themselves."""
    calls = list(reference.calls())
    full = np.concatenate([np.asarray(call.output.double()) for call in calls])
    images, labels = (np.concatenate([getattr(call, key) for call in calls]) for key in ("images", "labels"))
    return Outputs(full, full, np.full(len(calls), np.nan), images, labels)


def _images(reference: Reference, metrics: list[ImageMetric], fidelity: Fidelity) -> dict[str, Estimate]:
    rows: dict[str, list[Array]] = {metric.name: [] for metric in metrics}
    labels = []
    for chosen in reference.chunks(fidelity):
        full = reference.samples(fidelity, chosen)
        chunk = Chunk(full, full)
        labels.append(np.asarray(full.labels))
        for metric in metrics:
            with suppress(TrialError), named_metric(metric.name, metric.owner):
                rows[metric.name].append(rows_of(metric, chunk, chosen.start))
    found: dict[str, Estimate] = {}
    for metric in metrics:
        with suppress(TrialError), named_metric(metric.name, metric.owner):
            other = reference.rows(fidelity, metric)
            found[metric.name] = value_of(metric, np.concatenate(rows[metric.name]), other, np.concatenate(labels))
    return found


def _nearest(option: str, among: tuple[str, ...]) -> str:
    """Return an option if it is among others, else the one nearest in width; ``none`` is the widest."""
    if option in among:
        return option
    wanted = Option.parse(option).bits

    def far(text: str) -> tuple[float, bool]:
        other = Option.parse(text)
        bits = float("inf") if other.is_none else other.bits
        return abs(bits - wanted), bits < wanted

    return min(among, key=far)
