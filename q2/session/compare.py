"""A comparison of strategies: each searches several times, with other seeds; what has been measured is shared."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from q2.files import write_json
from q2.passes import Step, TextTable
from q2.search.comparison import Compared, Searched, picture, searched, write_csv
from q2.search.report import quality_of
from q2.search.strategies.base import Strategy
from q2.session.problem import metrics_of, strategies_of
from q2.session.report import manifest, writing
from q2.session.search import OpenSearch, opened
from q2.session.session import Session
from q2.version import version

__all__ = ["StrategyComparison", "compare"]


@dataclass(frozen=True, eq=False)
class StrategyComparison:
    """What a comparison gave, and the files in `folder`; `report` is what ``compare.json`` holds."""

    compared: Compared
    folder: Path
    files: list[Path]
    report: dict[str, object]

    @property
    def table(self) -> TextTable:
        """A row for each strategy: mean ± half the 95 % interval over its seeds."""
        return self.compared.table()

    def __repr__(self) -> str:
        title = f"{len(self.compared.searches)} searches of {self.compared.trials} trials, in {self.folder}/"
        return f"{title}\n{self.table}"

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def compare(session: Session, titles: Sequence[str], seeds: int, folder: Path) -> StrategyComparison:
    """Let every strategy search `seeds` times in `folder`: with the run's seed, and those after it.

    The budget is the run's `search.trials`, the same for all. A comparison that was stopped goes on where it was:
    recipes that are in the folder's store are not measured again, whichever search asks for them. Raises `Q2Error`.
    """
    session, strategies = _with_all(session, titles)
    searches: list[Searched] = []
    with opened(session, folder, strategies, "compare") as ready:
        quality = quality_of(ready.problem, ready.ready.kinds)
        beside = {name: trial for name, trial in ready.baselines().items() if trial.state == "complete"}
        for title, strategy in strategies.items():
            for seed in range(session.settings.seed, session.settings.seed + seeds):
                searches.append(_search(ready, title, strategy, seed))
        compared = Compared(searches, quality, ready.problem.trials, beside, ready.values(beside))
        about = manifest(session, ready.ready.denoiser, "compare")
    report: dict[str, object] = {"q2": version(), "target": str(ready.ready.target), "space": str(ready.ready.space)}
    report |= compared.summary()
    files = [folder / name for name in ("compare.json", "compare.csv", "compare.png", "compare.svg")]
    with writing(folder):
        session.write_settings(folder)
        write_json(folder / "manifest.json", about)
        for path in files[2:]:
            picture(compared, path)
        write_csv(compared, files[1])
        write_json(files[0], report)
    return StrategyComparison(compared, folder, files, report)


def _search(ready: OpenSearch, title: str, strategy: Strategy, seed: int) -> Searched:
    """Search once; what the strategy keeps has a folder of its own."""
    own = ready.problem.folder / "searches" / f"{title}-{seed}"
    problem = replace(ready.problem, seed=seed, folder=own)
    start = time.perf_counter()
    done = ready.run(strategy, title, problem)
    quality = quality_of(problem, ready.ready.kinds)
    found = searched(title, seed, problem, done.trials, quality)
    best = f"best {found.best[-1]:.5g}" if np.isfinite(found.best).any() else "no trial to choose"
    text = f"seed {seed}: {len(found.values)} trials, {done.measured} measured now · {best}"
    problem.show(Step(title, time.perf_counter() - start, text))
    return found


def _with_all(session: Session, titles: Sequence[str]) -> tuple[Session, dict[str, Strategy]]:
    """Return the strategies, and a session with all metrics that one of them needs: every trial is measured alike."""
    strategies = strategies_of(session, titles)
    kinds, _ = metrics_of(session, titles)
    tables = dict(session.run.overrides)
    search = dict(tables.get("search", {}))
    evaluation = {**search.get("evaluation", {}), "metrics": list(kinds)}
    tables["search"] = {**search, "strategy": titles[0], "evaluation": evaluation}
    session = session.with_run(replace(session.run, overrides=tables))
    return session, strategies
