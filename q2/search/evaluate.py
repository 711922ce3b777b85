"""The evaluator: a denoiser that is loaded once, and measures one recipe after the other."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from q2.denoisers import Denoiser
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.transform.apply import apply_options
from q2.plugins.catalogue import one_line
from q2.quant import Option
from q2.search.costs import Costs
from q2.search.jobs import Evaluated, Job
from q2.search.metrics.base import Array, Chunk, ForwardMetric, FreeMetric, ImageMetric, Metric, Outputs
from q2.search.metrics.intervals import Estimate
from q2.search.reference import Reference, drawn, outputs_of
from q2.search.trials import Trial
from q2.settings import EvaluationSettings, Fidelity

__all__ = ["LADDER", "Evaluated", "Evaluator", "Job", "metrics_at"]

LADDER: tuple[Fidelity, ...] = ("weights", "forward", "few-step", "full")
"""The fidelities, cheapest first."""


def metrics_at(fidelity: Fidelity, metrics: Sequence[type[Metric]]) -> list[type[Metric]]:
    """Return those of the metrics that a fidelity measures: dearer ones need more."""
    reach = {"weights": ("free",), "forward": ("free", "forward")}
    return [metric for metric in metrics if metric.cost in reach.get(fidelity, ("free", "forward", "images"))]


class Evaluator:
    """Measures recipes of one denoiser, one after the other; layers are switched in place.

    `graph` is the denoiser's, `reference` what full precision gave. The metrics are those that every trial gets.
    """

    def __init__(  # noqa: PLR0917 (one caller, which has them all)
        self,
        denoiser: Denoiser,
        graph: Graph,
        ctx: PassContext,
        costs: Costs,
        metrics: Sequence[Metric],
        settings: EvaluationSettings,
        reference: Reference,
    ) -> None:
        self.denoiser, self.graph, self.ctx, self.costs = denoiser, graph, ctx, costs
        self.metrics, self.settings, self.reference = metrics, settings, reference

    def __call__(self, job: Job) -> Evaluated:
        """Measure a recipe. What goes wrong makes a failed trial, with the reason in one line."""
        spent = dict.fromkeys(("switch", "sample", "score"), 0.0)
        start = time.perf_counter()
        try:
            found = self._measure(job, spent)
        except Exception as error:  # noqa: BLE001 (a trial that fails must not end the search)
            return job.failed(one_line(error))
        trial = Trial(
            job.recipe,
            {name: estimate.value for name, estimate in found.items()},
            {m.name: (found[m.name].low, found[m.name].high) for m in self.metrics if m.estimate and m.name in found},
            fidelity=job.fidelity,
            seed=job.seed,
            number=job.number,
            seconds=round(time.perf_counter() - start, 3),
            strategy=job.strategy,
        )
        return Evaluated(trial, spent)

    def _measure(self, job: Job, spent: dict[str, float]) -> dict[str, Estimate]:
        sums = self.costs.metrics(job.recipe)
        wanted = metrics_at(job.fidelity, [type(metric) for metric in self.metrics])
        metrics = [metric for metric in self.metrics if type(metric) in wanted]
        found = {name: Estimate(value, value, value) for name, value in sums.items()}
        for metric in metrics:
            if isinstance(metric, FreeMetric):
                value = metric.value(sums)
                found[metric.name] = Estimate(value, value, value)
        if job.fidelity == "weights":
            return found
        with _clocked(spent, "switch"):
            apply_options(self.graph, {name: Option.parse(text) for name, text in job.recipe.items()}, self.ctx)
        forward = [metric for metric in metrics if isinstance(metric, ForwardMetric)]
        if forward:
            with _clocked(spent, "sample"):
                outputs = self._outputs()
            with _clocked(spent, "score"):
                found |= {metric.name: metric.value(outputs).within(*metric.bounds) for metric in forward}
        images = [metric for metric in metrics if isinstance(metric, ImageMetric)]
        if images:
            found |= self._images(job, images, spent)
        return found

    def _outputs(self) -> Outputs:
        calls, made, seconds = list(self.reference.calls()), [], []
        for call in calls:
            start = time.perf_counter()
            output = outputs_of(self.denoiser, self.graph, call)
            seconds.append(time.perf_counter() - start)
            made.append(np.asarray(output.double()))
        return Outputs(
            np.concatenate(made),
            np.concatenate([np.asarray(call.output.double()) for call in calls]),
            np.array(seconds),
            np.concatenate([call.images for call in calls]),
            np.concatenate([call.labels for call in calls]),
        )

    def _images(self, job: Job, metrics: Sequence[ImageMetric], spent: dict[str, float]) -> dict[str, Estimate]:
        rows: dict[str, list[Array]] = {metric.name: [] for metric in metrics}
        labels = []
        for chosen in self.reference.chunks(job.fidelity):
            with _clocked(spent, "sample"):
                made = drawn(self.denoiser, self.graph, chosen, self.settings, job.fidelity)
            with _clocked(spent, "score"):
                chunk = Chunk(made, self.reference.samples(job.fidelity, chosen))
                labels.append(np.asarray(made.labels))
                for metric in metrics:
                    rows[metric.name].append(metric.rows(chunk))
        with _clocked(spent, "score"), torch.no_grad():
            return {
                metric.name: metric.value(
                    np.concatenate(rows[metric.name]),
                    self.reference.rows(job.fidelity, metric),
                    np.concatenate(labels),
                ).within(*metric.bounds)
                for metric in metrics
            }


@contextmanager
def _clocked(spent: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[part] += time.perf_counter() - start
