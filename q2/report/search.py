"""What a report says of a search: its verdict, the front with baselines, the trials, the layers that matter most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from q2.plugins import Plugins
from q2.report.entries import Entry, entries
from q2.report.folder import RunFolder
from q2.report.front import SIZE, front
from q2.report.parts import Chart, Section, Summary, Table, number
from q2.report.recipes import layer_map, summary
from q2.report.sensitivity import sensitivities
from q2.search.kinds import METRICS
from q2.search.metrics.base import Metric
from q2.search.objective.target import Target
from q2.search.trials.trial import FULL_PRECISION, Trial

__all__ = ["SearchPage"]

_MOST_ROWS = 2000
_CHOSEN = "recipe.toml"


@dataclass(frozen=True)
class SearchPage:
    """A search's folder: what its ``report.json`` says, and its trials. Raises `Q2Error` for a file that is damaged.

    Of a search that has not ended there is no ``report.json``: the page has its trials alone.
    """

    run: RunFolder

    @cached_property
    def fidelity(self) -> str:
        """The fidelity that the search's own trials have; trials at others only helped it."""
        found = self.run.settings.get("search", {}).get("evaluation", {}).get("fidelity")
        return str(found or "full")

    @cached_property
    def trials(self) -> list[Trial]:
        """The complete trials at the search's fidelity, baselines among them."""
        return [each for each in self.run.trials if each.state == "complete" and each.fidelity == self.fidelity]

    @cached_property
    def target(self) -> Target:
        """What the search maximizes."""
        return Target.parse(str(self.run.settings.get("search", {}).get("target", SIZE)), list(self._kinds))

    @cached_property
    def quality(self) -> type[Metric]:
        """The metric of the target that is measured on images or outputs, the first; else the first of all."""
        kinds = [self._kinds[name] for name in self.target.metrics]
        return next((kind for kind in kinds if kind.cost != "free"), kinds[0])

    @cached_property
    def chosen(self) -> Entry | None:
        """The recipe that the search chose; None where it chose none."""
        return next((entry for entry in entries(self.run, "front") if entry.name == _CHOSEN), None)

    @cached_property
    def baselines(self) -> list[Entry]:
        """The baselines, the best first; failed ones last."""
        known = entries(self.run, "baselines")
        return sorted(known, key=lambda entry: (entry.target is None, -(entry.target or 0.0)))

    @cached_property
    def full(self) -> Entry | None:
        """Full precision; None where the search wanted no baselines."""
        return next(iter(entries(self.run, FULL_PRECISION)), None)

    @property
    def verdict(self) -> str:
        """What was chosen, and whether it beats the baselines, as the search says it."""
        said = str(self.run.report.get("verdict", ""))
        if not said:
            return f"The search has not ended: {len(self.trials)} complete trials so far, no recipe was chosen."
        return f"{said[0].upper()}{said[1:]}{'' if said.endswith('.') else '.'}"

    def value(self, trial: Trial) -> float:
        """Return the target's value of a trial; minus infinity where it has none."""
        found = self.target.finite(trial.metrics)
        return float("-inf") if found is None else found

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
        bounds = self.run.settings.get("search", {}).get("constraints", [])
        subtitle = f"search for the greatest {self.target}" + "".join(f", {bound}" for bound in bounds)
        comparison = self._comparison()
        first: list[Table | Chart] = [comparison] if comparison.rows else []
        if any({SIZE, self.quality.name} <= each.metrics.keys() for each in self.trials):
            first.append(self._front())
        return Summary(self.run.title, subtitle, self.verdict, figures, first, sections)

    @cached_property
    def _kinds(self) -> Mapping[str, type[Metric]]:
        offers = Plugins(entry_points=False).of(METRICS)
        return {name: offers.load(name) for name in offers}

    def _figures(self) -> list[tuple[str, str]]:
        counts = self.run.report.get("trials", {})
        done = counts.get("complete", len(self.trials))
        failed = counts.get("failed", sum(trial.state == "failed" for trial in self.run.trials))
        figures = [(str(done), f"complete trials, {failed} failed")]
        if self.chosen is not None:
            name, trial = self.quality.name, self.chosen.measured
            quality = [] if name == SIZE else [(self._shown(trial, name), f"{self._head(name)}, chosen")]
            bits = (self._shown(trial, SIZE), "bits a weight, chosen")
            figures = [bits, *quality, (_target(self.chosen), "target of the chosen recipe"), *figures]
        return figures

    def _comparison(self) -> Table:
        """Return the chosen recipe beside the baselines and full precision."""
        rows = [("chosen", self.chosen)] if self.chosen else []
        rows += [(entry.name, entry) for entry in self.baselines]
        rows += [(FULL_PRECISION, self.full)] if self.full else []
        names = self._names([entry.measured for _, entry in rows])
        bound = bool(self.run.report.get("constraints"))
        cells = [
            [label, *(_allowed(each) if bound else []), _target(each), *(self._shown(each.measured, n) for n in names)]
            for label, each in rows
        ]
        heads = ["recipe", *(["allowed"] if bound else []), "target", *map(self._head, names)]
        return Table(heads, cells, "The chosen recipe beside the baselines.", frozenset([0] if self.chosen else []))

    def _front(self) -> Chart:
        names = {entry.id: entry.name for entry in self.baselines}
        level = self.full.measured.metrics.get(self.quality.name) if self.full else None
        level = None if level in self.quality.bounds else level
        chosen = self.chosen.id if self.chosen else ""
        return front(self.trials, self.quality, self.value, chosen=chosen, baselines=names, level=level)

    def _head(self, name: str) -> str:
        unit = self._kinds[name].unit if name in self._kinds else ""
        return f"{name} {'MB' if unit == 'bytes' else unit}".rstrip() if name != SIZE else name

    def _shown(self, trial: Trial, name: str) -> str:
        """Return a metric as people read it: bytes in MB; an estimate with its interval."""
        if name not in trial.metrics:
            return ""
        if name in trial.intervals:
            return trial.shown(name)
        value = trial.metrics[name]
        if name == SIZE:
            return f"{value:.3f}"
        return number(value / 1e6 if name in self._kinds and self._kinds[name].unit == "bytes" else value)

    def _names(self, trials: Sequence[Trial]) -> list[str]:
        """Return the metrics of trials: bits and the front's quality, then estimates, then what follows from sizes."""
        names = dict.fromkeys(name for trial in trials for name in trial.metrics)
        measured = {name for trial in trials for name in trial.intervals}
        return sorted(names, key=lambda name: (name != SIZE, name != self.quality.name, name not in measured, name))

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
        marked = frozenset(i for i, each in enumerate(shown) if self.chosen and each.id == self.chosen.id)
        heads = ["trial", "state", "strategy", "fidelity", "target", *names, "recipe"]
        left = len(ranked) - len(shown)
        text = f"The best {len(shown)} of {len(ranked)} trials." if left else ""
        return Section("Trials", [Table(heads, rows, "", marked, long=True)], text)


def _allowed(entry: Entry) -> list[str]:
    return ["" if entry.allowed is None else "yes" if entry.allowed else "no"]


def _target(entry: Entry) -> str:
    return entry.error if entry.target is None else number(entry.target)
