"""The evaluator: a denoiser that is loaded once, and measures one recipe after the other."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from q2.denoisers import Denoiser
from q2.denoisers.recorded import outputs_of
from q2.errors import Q2Error
from q2.graph import Graph
from q2.passes import PassContext
from q2.plugins.catalogue import one_line
from q2.quant import Option
from q2.search.evaluation.costs import Costs
from q2.search.evaluation.jobs import Evaluated, Job
from q2.search.evaluation.reference import Reference, drawn
from q2.search.metrics.base import Array, Chunk, ForwardMetric, FreeMetric, ImageMetric, Metric, Outputs, metrics_at
from q2.search.metrics.contract import estimate_of, named_metric, rows_of, value_of
from q2.search.metrics.finite import NotFiniteError, check_finite
from q2.search.metrics.intervals import Estimate, Labels
from q2.settings import EvaluationSettings

__all__ = ["Evaluated", "Evaluator", "Job", "Kept"]


@dataclass(eq=False)
class Kept:
    """What the metrics of one recipe were worked out from, image by image: so that recipes can be compared in pairs."""

    rows: dict[str, Array] = field(default_factory=dict)
    labels: Labels = field(default_factory=lambda: np.zeros(0, np.intp))
    outputs: Outputs | None = None


class Evaluator:
    """Measures recipes of one denoiser, one after the other; layers are switched in place.

    `graph` is the denoiser's, `reference` what full precision gave, `switch` applies a recipe with the passes that
    depend on it. The metrics are those that every trial gets.
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
        switch: Callable[[Mapping[str, Option]], object],
    ) -> None:
        self.denoiser, self.graph, self.ctx, self.costs = denoiser, graph, ctx, costs
        self.metrics, self.settings, self.reference, self.switch = metrics, settings, reference, switch
        self.kept: Kept | None = None
        """Where set, receives what the next recipe's metrics are computed from."""

    def __call__(self, job: Job) -> Evaluated:
        """Measure a recipe. What goes wrong, or is not finite, makes a failed trial with the reason in one line."""
        spent = dict.fromkeys(("switch", "sample", "score"), 0.0)
        start = time.perf_counter()
        try:
            found = self._measure(job, spent)
            trial = replace(
                job.trial(),
                metrics={name: estimate.value for name, estimate in found.items()},
                intervals={
                    m.name: (found[m.name].low, found[m.name].high)
                    for m in self.metrics
                    if m.estimate and m.name in found
                },
                seconds=round(time.perf_counter() - start, 3),
            )
        except Exception as error:  # noqa: BLE001 (a trial that fails must not end the search)
            reason = str(error) if isinstance(error, Q2Error) else one_line(error)
            return Evaluated(job.trial("failed", reason), spent, isinstance(error, NotFiniteError))
        return Evaluated(trial, spent)

    def _measure(self, job: Job, spent: dict[str, float]) -> dict[str, Estimate]:
        sums = self.costs.metrics(job.recipe)
        wanted = metrics_at(job.fidelity, [type(metric) for metric in self.metrics])
        metrics = [metric for metric in self.metrics if type(metric) in wanted]
        found: dict[str, Estimate] = {}
        for name, value in sums.items():
            with named_metric(name):
                found[name] = estimate_of(value)
        for metric in metrics:
            if isinstance(metric, FreeMetric):
                with named_metric(metric.name, metric.owner):
                    found[metric.name] = estimate_of(metric.value(sums))
        if job.fidelity == "weights":
            return found
        with _clocked(spent, "switch"):
            self.switch({name: Option.parse(text) for name, text in job.recipe.items()})
        forward = [metric for metric in metrics if isinstance(metric, ForwardMetric)]
        if forward:
            with _clocked(spent, "sample"):
                outputs = self._outputs()
            with _clocked(spent, "score"):
                for each in forward:
                    with named_metric(each.name, each.owner):
                        found[each.name] = estimate_of(each.value(outputs), each.bounds)
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
        outputs = Outputs(
            np.concatenate(made),
            np.concatenate([np.asarray(call.output.double()) for call in calls]),
            np.array(seconds),
            np.concatenate([call.images for call in calls]),
            np.concatenate([call.labels for call in calls]),
        )
        check_finite(outputs.made, "outputs", "input")
        if self.kept is not None:
            self.kept.outputs = outputs
        return outputs

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
                    with named_metric(metric.name, metric.owner):
                        rows[metric.name].append(rows_of(metric, chunk, chosen.start))
        found = {}
        whole = {name: np.concatenate(each) for name, each in rows.items()}
        if self.kept is not None:
            self.kept.rows, self.kept.labels = whole, np.concatenate(labels)
        with _clocked(spent, "score"), torch.no_grad():
            for metric in metrics:
                with named_metric(metric.name, metric.owner):
                    other = self.reference.rows(job.fidelity, metric)
                    found[metric.name] = value_of(metric, whole[metric.name], other, np.concatenate(labels))
        return found


@contextmanager
def _clocked(spent: dict[str, float], part: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[part] += time.perf_counter() - start
