"""What a report says of a search: its verdict, the front with baselines, the trials, the layers that matter most."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from q2.plugins import Plugins
from q2.report.folder import RunFolder
from q2.report.front import SIZE, front
from q2.report.parts import Chart, Section, Summary, Table, number
from q2.report.recipes import layer_map, summary, uniform
from q2.report.sensitivity import sensitivities
from q2.search.kinds import METRICS
from q2.search.metrics.base import Metric
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.trials.trial import Trial

__all__ = ["SearchPage"]

_MOST_ROWS = 2000


@dataclass(frozen=True)
class SearchPage:
    """A search's folder, looked at. Raises `Q2Error` for one without complete trials or without settings."""

    run: RunFolder

    @cached_property
    def fidelity(self) -> str:
        """The fidelity that the search's own trials have; trials at others only helped it."""
        found = self.run.settings.get("search", {}).get("evaluation", {}).get("fidelity")
        return str(found or "full")

    @cached_property
    def trials(self) -> list[Trial]:
        """The complete trials at the search's fidelity."""
        return [each for each in self.run.trials if each.state == "complete" and each.fidelity == self.fidelity]

    @cached_property
    def target(self) -> Target:
        """What the search maximizes."""
        return Target.parse(str(self.run.settings.get("search", {}).get("target", SIZE)), list(self._kinds))

    @cached_property
    def constraints(self) -> list[Constraint]:
        """The bounds that a recipe has to satisfy."""
        texts = self.run.settings.get("search", {}).get("constraints", [])
        return [Constraint.parse(text, list(self._kinds)) for text in texts]

    @cached_property
    def quality(self) -> type[Metric]:
        """The metric of the target that is measured on images or outputs, the first; else the first of all."""
        kinds = [self._kinds[name] for name in self.target.metrics]
        return next((kind for kind in kinds if kind.cost != "free"), kinds[0])

    @cached_property
    def chosen(self) -> Trial | None:
        """The trial of the recipe that the search chose."""
        recipe = self.run.recipe
        if recipe is None:
            return None
        wanted = {name: str(option) for name, option in recipe.layers.items()}
        return next((trial for trial in self.trials if dict(trial.recipe) == wanted), None)

    @cached_property
    def baselines(self) -> dict[str, Trial]:
        """The trials with one option in all layers, and full precision, by name, the best first."""
        named = {name: trial for trial in self.trials if (name := uniform(trial.recipe))}
        return dict(sorted(named.items(), key=lambda item: -self.value(item[1])))

    def value(self, trial: Trial) -> float:
        """Return the target's value of a trial; minus infinity where it has none."""
        found = self.target.finite(trial.metrics)
        return float("-inf") if found is None else found

    def allowed(self, trial: Trial) -> bool:
        """Say whether a trial satisfies all constraints that its metrics can tell of."""
        known = [bound for bound in self.constraints if bound.metric in trial.metrics]
        return all(bound.admits(trial.metrics[bound.metric]) for bound in known)

    def page(self) -> Summary:
        """Return the whole page of the search."""
        kinds = sensitivities(self.run, self.trials)
        most = ", ".join(name for name, _ in kinds[0].layers[:3]) if kinds else ""
        figures = self._figures()
        figures += [(most, f"most sensitive layers, by {kinds[0].source}")] if most else []
        recipe = self.run.recipe
        sections = [section for kind in kinds for section in kind.sections()]
        if recipe is not None:
            layers = {name: str(option) for name, option in recipe.layers.items()}
            sections.insert(0, Section("Bits by layer", [layer_map(layers)], f"The chosen recipe: {summary(layers)}."))
        sections.append(self._table())
        subtitle = f"search for the greatest {self.target}" + "".join(f", {bound}" for bound in self.constraints)
        first: list[Table | Chart] = [self._comparison()]
        if any(SIZE in each.metrics and self.quality.name in each.metrics for each in self.trials):
            first.append(front(self.trials, self.quality, self.chosen, self.baselines, self.value))
        return Summary(self.run.title, subtitle, self.verdict, figures, first, sections)

    @property
    def verdict(self) -> str:
        """One sentence: what was chosen, and whether it beats the best uniform recipe within the constraints."""
        if self.chosen is None:
            return "No recipe was chosen: no complete trial satisfies the constraints." if self.trials else "No trial."
        rivals = {
            name: each for name, each in self.baselines.items() if self.allowed(each) and each.id != self.chosen.id
        }
        same = uniform(self.chosen.recipe)
        shown = self._shown(self.chosen)
        if same:
            return f"{same} in every layer was chosen: {shown}. No mixed recipe of the search has a greater target."
        own = f"{self.chosen.label.capitalize()} was chosen: {shown}."
        if not rivals:
            return f"{own} No uniform recipe that satisfies the constraints was tried beside it."
        name, rival = next(iter(rivals.items()))
        gain = self.value(self.chosen) - self.value(rival)
        words = f"the target is {number(abs(gain))} {'above' if gain > 0 else 'below'} that of {name} in every layer"
        return f"{own} Of uniform recipes within the constraints {name} is the best: {words}."

    @cached_property
    def _kinds(self) -> Mapping[str, type[Metric]]:
        offers = Plugins(entry_points=False).of(METRICS)
        return {name: offers.load(name) for name in offers}

    def _shown(self, trial: Trial) -> str:
        name, words = self.quality.name, []
        if SIZE in trial.metrics:
            words.append(f"{trial.metrics[SIZE]:.3f} bits a weight")
        if name in trial.metrics:
            words.append(f"{name} {trial.shown(name)} {self.quality.unit}".rstrip())
        return ", ".join(words)

    def _figures(self) -> list[tuple[str, str]]:
        failed = sum(trial.state == "failed" for trial in self.run.trials)
        figures = [(str(len(self.trials)), f"complete trials, {failed} failed")]
        if self.chosen is not None:
            figures = [(f"{self.chosen.metrics.get(SIZE, float('nan')):.3f}", "bits a weight, chosen"), *figures]
            figures.insert(1, (number(self.value(self.chosen)), "target of the chosen recipe"))
        return figures

    def _comparison(self) -> Table:
        """Return the chosen recipe beside the baselines."""
        rows = {} if self.chosen is None else {"chosen": self.chosen}
        rows |= self.baselines
        names = self._names(list(rows.values()))
        cells = []
        for label, each in rows.items():
            metrics = [each.shown(name) if name in each.metrics else "" for name in names]
            cells.append([label, *self._bounds(each), number(self.value(each)), *metrics])
        marked = frozenset([0] if self.chosen else [])
        heads = ["recipe", *(["allowed"] if self.constraints else []), "target", *names]
        return Table(heads, cells, "The chosen recipe beside uniform ones.", marked)

    def _bounds(self, trial: Trial) -> list[str]:
        return ["yes" if self.allowed(trial) else "no"] if self.constraints else []

    def _names(self, trials: list[Trial]) -> list[str]:
        names = dict.fromkeys(name for trial in trials for name in trial.metrics)
        return sorted(names, key=lambda name: (name != SIZE, name != self.quality.name, name))

    def _table(self) -> Section:
        """Return all trials as a table, the best first; of very many the best."""
        ranked = sorted(self.run.trials, key=lambda each: (each.state == "failed", -self.value(each)))
        shown = ranked[:_MOST_ROWS]
        names = self._names(shown)
        rows = [
            [
                each.id[:8] if each.number is None else each.number,
                each.error or each.state,
                each.strategy,
                each.fidelity,
                *([self.value(each)] if each.state == "complete" else [None]),
                *(each.metrics.get(name) for name in names),
                summary(each.recipe),
            ]
            for each in shown
        ]
        marked = frozenset(i for i, each in enumerate(shown) if self.chosen is not None and each.id == self.chosen.id)
        table = Table(
            ["trial", "state", "strategy", "fidelity", "target", *names, "recipe"], rows, "", marked, long=True
        )
        left = len(ranked) - len(shown)
        return Section("Trials", [table], f"The best {len(shown)} of {len(ranked)} trials." if left else "")
