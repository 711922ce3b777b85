"""A round of the predictor's search: learn from the trials so far, label, build what to try next."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from q2.errors import PredictorError
from q2.passes import Step, TextTable
from q2.search.objective.split import Parts
from q2.search.predictor.additive import Additive, additive, priors
from q2.search.predictor.baselines import ADDITIVE, baselines
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.label import Labels, label
from q2.search.predictor.proposals import BuiltRecipe, Predict, Proposer
from q2.search.predictor.provenance import BY_SEARCH, Provenance
from q2.search.predictor.scores import (
    Level,
    ScoredPart,
    additive_labels,
    from_effects,
    from_labels,
    from_ridge,
    labels_scale,
)
from q2.search.predictor.tables import extremes, mean_sd
from q2.search.predictor.train import Training
from q2.search.predictor.trained import Trained, train
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

__all__ = ["Learner", "LearnerOptions"]

_FRONT, _FOLDS = 0.25, 0.25
_PARENTS = 4


@dataclass(frozen=True, eq=False)
class _Learned:
    """What a round learnt: scores to build from, a prediction, labels to keep, and the networks if there are any."""

    parts: list[ScoredPart]
    predict: Predict
    labels: Labels
    trained: Trained | None = None


class LearnerOptions(Protocol):
    """What a learner reads of its strategy's options."""

    @property
    def scores(self) -> Literal["labels", "effects", "ridge"]:
        """Where scores to build from come from."""

    @property
    def loss(self) -> Literal["srcc", "ndcg", "hybrid"]:
        """What the networks minimize beside the squared error."""

    @property
    def folds(self) -> int:
        """How many folds."""

    @property
    def epochs(self) -> int:
        """How many epochs at most."""

    @property
    def jobs(self) -> int:
        """How many folds are trained at a time."""

    @property
    def device(self) -> str:
        """Where the networks are trained."""

    @property
    def attention(self) -> Literal["auto", "fused", "pyg"]:
        """Which code passes their messages."""


class Learner:
    """Learns from a search's trials, round after round. What it knows last is kept in the search's folder.

    `errors` (choices, options) take the place of the bank's.
    """

    def __init__(self, problem: Problem, options: LearnerOptions, errors: Floats | None = None) -> None:
        self.problem, self.options = problem, options
        self.bridge = Bridge.of(problem.graph, problem.space, problem.costs, errors)
        self.parts = Parts.of(problem.target, problem.costs)
        self.rounds = 0
        self.learned: _Learned | None = None

    def round(self, trials: Sequence[Trial], count: int) -> list[dict[str, str]]:
        """Return up to `count` recipes that were not tried: a quarter of them along the front of budgets.

        Another quarter, but no more than there are folds, is what single folds would build; the rest are near variants
        of the best trials and builds. Raises PredictorError for too few complete trials, or where all are of one value.
        """
        every = {trial.id: trial for trial in trials}  # a failed trial may be there again, complete
        every |= {trial.id: trial for trial in trials if trial.state == "complete"}
        known = [trial for trial in every.values() if trial.state == "complete"]
        rows = self.bridge.encode([trial.recipe for trial in every.values()], [trial.label for trial in every.values()])
        chosen = rows[[trial.state == "complete" for trial in every.values()]]
        values = np.array(self.problem.values(known)) if known else np.zeros(0)
        y = self.parts.unknown([trial.metrics for trial in known], values.tolist())
        self.learned = self._learn(chosen, y)
        start = time.perf_counter()
        tried = {row.tobytes() for row in rows}
        proposer = Proposer(self.bridge, self.problem.costs, self.parts, self.problem.constraints, tried)
        parts, predict = self.learned.parts, self.learned.predict
        front = proposer.front(parts, predict, max(1, round(_FRONT * count)))
        others = proposer.folds(parts, predict, round(_FOLDS * count))
        ranked = sorted([*front, *others], key=lambda built: -built.value)[:_PARENTS]
        parents = [chosen[i] for i in np.argsort(-values, kind="stable")[:_PARENTS]] + [b.chosen for b in ranked]
        rng = np.random.default_rng([self.problem.seed, self.rounds])
        others += proposer.near(parents, predict, count - len(front) - len(others), rng)
        self.rounds += 1
        self._show_builds(proposer, front, others, time.perf_counter() - start)
        return [self.bridge.recipe(built.chosen) for built in [*front, *others][:count]]

    def finish(self) -> None:
        """Report the layers that the last round found most sensitive and most tolerant."""
        if self.learned is not None:
            self.problem.show(Step("sensitivity", 0, extremes(self.learned.labels)))

    def _learn(self, chosen: Ints, y: Floats) -> _Learned:
        problem, options, space, start = self.problem, self.options, self.bridge.space, time.perf_counter()
        training = Training(
            options.loss,
            folds=options.folds,
            epochs=options.epochs,
            seed=problem.seed,
            device=options.device,
            attention=options.attention,
        )
        if len(y) and np.ptp(y) == 0:
            raise PredictorError(f"target {problem.target}: all {len(y)} trials have the same value: nothing to learn")
        fits = additive(space, chosen, y, training)
        if options.scores == "ridge":
            parts = from_ridge(space, fits, y)
            self._show_training(None, fits, chosen, y, training, start)

            def mean(of: Ints) -> Floats:
                return np.asarray(np.mean([fit.predict(of) for fit in fits], axis=0))

            return self._kept(_Learned(parts, mean, additive_labels(space, parts)), len(y))
        graphs = space.graphs(chosen, {str(problem.target): y})
        known = priors(space, fits, chosen, training)
        trained = train(graphs, str(problem.target), training, options.jobs, problem.progress, priors=known)
        self._show_training(trained, fits, chosen, y, training, start)
        start = time.perf_counter()
        scales: dict[Level, float] = {}
        if options.scores == "labels":
            labels = label(space, trained, problem.progress)
            for level in ("unit", "node"):
                scales[level] = labels_scale(space, trained, labels, chosen, y, level)
            parts = from_labels(space, labels, scales[problem.build.level], level=problem.build.level)
            count = sum(len(unit.variants) for unit in labels.units)
            line = f"{count:,} variants of {len(labels.units)} units"
        else:
            parts = from_effects(space, trained, chosen, y, problem.progress)
            labels = additive_labels(space, parts)
            line = f"effects of {len(space.choices)} layers' options on the prediction"
        problem.show(Step("label", time.perf_counter() - start, line))

        def predict(of: Ints) -> Floats:
            return trained.predict(space.graphs(of, {}))[0]

        return self._kept(_Learned(parts, predict, labels, trained), len(y), scales)

    def _kept(self, learned: _Learned, count: int, scales: Mapping[Level, float] | None = None) -> _Learned:
        """Write what was learned from `count` trials into the search's folder, with the `scales` of its labels."""
        run = Path(self.problem.folder)
        folder = run / "predictor"
        made = self._made(count, run / "trials", scales or {})
        if learned.trained is not None:
            learned.trained.save(folder)
        replace(self.bridge.space, made=made).save(folder / "space.npz")
        replace(learned.labels, made=made).save(folder / "labels.npz")
        return learned

    def _made(self, count: int, trials: Path, scales: Mapping[Level, float]) -> Provenance:
        problem, options = self.problem, self.options
        wholes = options.scores == "labels"
        return Provenance(
            subject=problem.subject,
            by=BY_SEARCH,
            trials=str(trials),
            count=count,
            fidelity=problem.fidelity,
            target=str(problem.target),
            scores="networks" if options.scores == "labels" else options.scores,
            loss="" if options.scores == "ridge" else options.loss,
            folds=options.folds,
            level="unit" if wholes else "node",
            known=dict(self.parts.linear),
            scale_unit=scales.get("unit", 1.0),
            scale_node=scales.get("node", 1.0),
        )

    def _show_training(  # noqa: PLR0917 (its callers have them all)
        self,
        trained: Trained | None,
        fits: Sequence[Additive],
        chosen: Ints,
        y: Floats,
        training: Training,
        start: float,
    ) -> None:
        others = dict(baselines(self.bridge.space, chosen, y, training, fits))
        known = [fold.metrics for fold in trained.folds] if trained else []
        names = ("srcc", "ndcg@10")
        own = {name: np.array([one[name] for one in known]) for name in names} if known else others.pop(ADDITIVE)
        words = [f"{training.folds} folds of {len(y)} trials", f"SRCC {mean_sd(own['srcc'])}"]
        rest = ", ".join(f"{name} {found['srcc'].mean():.2f}" for name, found in others.items())
        line = " · ".join([*words, f"NDCG@10 {mean_sd(own['ndcg@10'])}", f"SRCC of others: {rest}"])
        self.problem.show(Step("train", time.perf_counter() - start, line))

    def _show_builds(
        self, proposer: Proposer, front: Sequence[BuiltRecipe], others: Sequence[BuiltRecipe], seconds: float
    ) -> None:
        every = [*front, *others]
        if not every:
            self.problem.show(Step("build", seconds, "nothing that was not tried"))
            return
        bits = [float(proposer.cost("avg_bits", built.chosen)) for built in every]
        line = f"{len(front)} recipes on the front, {len(others)} near · avg_bits {min(bits):.3f} to {max(bits):.3f}"
        best = max(built.value for built in every)
        rows = tuple((f"{b:.3f}", f"{built.value:.4g}", built.how) for b, built in zip(bits, front, strict=False))
        table = TextTable(("avg_bits", "predicted target", "built for"), rows)
        self.problem.show(Step("build", seconds, f"{line} · predicted target up to {best:.4g}", (table,)))
