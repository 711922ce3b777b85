"""What an evaluation of given recipes gave: their metrics, and how each differs from the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from q2.passes import TextTable
from q2.search.evaluation.evaluator import Kept
from q2.search.evaluation.reference import Reference
from q2.search.metrics.base import ForwardMetric, FreeMetric, ImageMetric, Metric
from q2.search.metrics.difference import FEW, Verdict, image_difference, output_difference, verdict
from q2.search.metrics.intervals import Estimate
from q2.search.trials.trial import FULL_PRECISION, Trial
from q2.settings import Fidelity
from q2.version import version

__all__ = ["Difference", "Evaluation", "differences"]


@dataclass(frozen=True)
class Difference:
    """By how much a metric of a recipe is above that of the first one, what that means, and of how many images."""

    estimate: Estimate
    verdict: Verdict
    images: int

    @property
    def shown(self) -> str:
        """The difference with its interval, as people read it; without one if it is exact."""
        value, low, high = (
            each + 0.0 for each in (self.estimate.value, self.estimate.low, self.estimate.high)
        )  # no -0
        return f"{value:+.4g}" if low == high else f"{value:+.4g} ({low:+.3g} to {high:+.3g})"

    @property
    def said(self) -> str:
        """The verdict; of few images it says so."""
        few = self.verdict == "within noise" and self.images < FEW
        return f"within noise, but {self.images} images are few" if few else self.verdict


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The trials of recipes by title, full precision's, and the differences to the first, by title and metric."""

    trials: Mapping[str, Trial]
    full: Trial
    differences: Mapping[str, Mapping[str, Difference]]
    kinds: Mapping[str, type[Metric]]

    @property
    def table(self) -> TextTable:
        """A table with a row for every recipe and for full precision, and a column for every metric."""
        names = list(dict.fromkeys(("avg_bits", *self.kinds)))
        heads = [f"{name} {self.kinds[name].unit}".strip() if name in self.kinds else name for name in names]
        rows = [
            (title, *(trial.shown(name) if name in trial.metrics else "" for name in names))
            for title, trial in {**self.trials, FULL_PRECISION: self.full}.items()
        ]
        return TextTable(("recipe", *heads), tuple(rows))

    @property
    def compared(self) -> TextTable:
        """A row for every metric of every recipe but the first: the difference to the first, and the verdict."""
        first = next(iter(self.trials), "")
        rows = [
            (title, name, each.shown, each.said) for title, of in self.differences.items() for name, each in of.items()
        ]
        return TextTable(("recipe", "metric", f"beside {first}", "verdict"), tuple(rows))

    @property
    def report(self) -> dict[str, object]:
        """What ``report.json`` holds."""
        return {
            "q2": version(),
            "recipes": {title: trial.table() for title, trial in self.trials.items()},
            "full precision": self.full.table(),
            "beside": next(iter(self.trials), ""),
            "differences": {
                title: {
                    name: {
                        "value": each.estimate.value,
                        "low": each.estimate.low,
                        "high": each.estimate.high,
                        "verdict": each.said,
                    }
                    for name, each in of.items()
                }
                for title, of in self.differences.items()
            },
        }

    def __repr__(self) -> str:
        return "\n\n".join(str(table) for table in (self.table, self.compared) if table.rows)

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in (self.table, self.compared) if table.rows)


def differences(
    metrics: Sequence[Metric],
    trials: Mapping[str, Trial],
    kept: Mapping[str, Kept],
    reference: Reference,
    fidelity: Fidelity,
) -> dict[str, dict[str, Difference]]:
    """Return how every recipe but the first differs from it, metric by metric; those without a pair are left out."""
    first, *rest = trials
    found: dict[str, dict[str, Difference]] = {}
    for title in rest:
        found[title] = {}
        for metric in metrics:
            pair = _pair(metric, trials[title], trials[first], kept[title], kept[first], reference, fidelity)
            if pair is not None:
                estimate, images = pair
                found[title][metric.name] = Difference(estimate, verdict(type(metric), estimate), images)
    return found


def _pair(  # noqa: PLR0917 (two of everything)
    metric: Metric, trial: Trial, base: Trial, mine: Kept, theirs: Kept, reference: Reference, fidelity: Fidelity
) -> tuple[Estimate, int] | None:
    """Return the difference by a metric, and of how many images; None for a time, and for what was not measured."""
    if metric.name not in trial.metrics or metric.name not in base.metrics:
        return None
    if isinstance(metric, FreeMetric):
        value = trial.metrics[metric.name] - base.metrics[metric.name]
        return Estimate(value, value, value), FEW
    if isinstance(metric, ForwardMetric) and mine.outputs and theirs.outputs:
        if metric.unit == "seconds":
            return None
        images = len(set(mine.outputs.images.tolist()))
        return output_difference(metric, mine.outputs, theirs.outputs), images
    if isinstance(metric, ImageMetric):
        rows, others = mine.rows[metric.name], theirs.rows[metric.name]
        other = reference.rows(fidelity, metric)
        return image_difference(metric, rows, others, other, mine.labels), len(rows)
    return None
