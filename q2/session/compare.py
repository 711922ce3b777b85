"""A comparison of strategies: each searches several times, with other seeds; what has been measured is shared."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from q2.config import to_toml
from q2.errors import ConfigError, Q2Error, did_you_mean
from q2.files import write_json, write_text
from q2.passes import Step
from q2.progress import Progress, silent
from q2.search.comparison import Compared, Searched, picture, searched, write_csv
from q2.search.report import quality_of
from q2.search.strategies.base import Strategy
from q2.session.ready import metrics_of, strategy_of
from q2.session.search import Session, opened
from q2.session.transform import Plan, manifest, prepare
from q2.version import version

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a comparison gave, and the files in `folder`."""

    compared: Compared
    folder: Path
    files: list[Path]


def compare(
    plan: Plan,
    titles: Sequence[str],
    seeds: int,
    folder: Path,
    *,
    progress: Progress = silent,
    show: Callable[[Step], None] = lambda step: None,
) -> Comparison:
    """Let every strategy search `seeds` times in `folder`: with the run's seed, and those after it.

    The budget is the run's `search.trials`, the same for all. A comparison that was stopped goes on where it was:
    recipes that are in the folder's store are not measured again, whichever search asks for them. Raises `Q2Error`.
    """
    if len(set(titles)) < len(titles) or not titles:
        raise ConfigError(f"--strategies {','.join(titles)}: expected one or more, all different")
    plan, strategies = _with_all(plan, titles)
    searches: list[Searched] = []
    with opened(plan, folder, list(strategies.values()), progress, show) as session:
        quality = quality_of(session.problem, session.ready.kinds)
        for title, strategy in strategies.items():
            for seed in range(plan.settings.seed, plan.settings.seed + seeds):
                searches.append(_search(session, title, strategy, seed))
        compared = Compared(searches, quality, session.problem.trials)
        about = manifest(plan, session.ready.denoiser)
    report = {"q2": version(), "target": str(session.ready.target), "space": str(session.ready.space)}
    files = [folder / name for name in ("compare.json", "compare.csv", "compare.png")]
    try:
        write_text(folder / "effective.toml", to_toml(plan.effective))
        write_json(folder / "manifest.json", about)
        picture(compared, files[2])
        write_csv(compared, files[1])
        write_json(files[0], report | compared.summary())
    except OSError as error:
        raise Q2Error(f"{folder}: cannot be written: {error.strerror or error}") from error
    return Comparison(compared, folder, files)


def _search(session: Session, title: str, strategy: Strategy, seed: int) -> Searched:
    """Search once; what the strategy keeps has a folder of its own."""
    own = session.problem.folder / "searches" / f"{title}-{seed}"
    problem = replace(session.problem, seed=seed, folder=own)
    start = time.perf_counter()
    done = session.run(strategy, title, problem)
    quality = quality_of(problem, session.ready.kinds)
    found = searched(title, seed, problem, done.trials, quality)
    best = f"best {found.best[-1]:.5g}" if np.isfinite(found.best).any() else "no trial to choose"
    text = f"seed {seed}: {len(found.worth)} trials, {done.measured} measured now · {best}"
    problem.show(Step(title, time.perf_counter() - start, text))
    return found


def _with_all(plan: Plan, titles: Sequence[str]) -> tuple[Plan, dict[str, Strategy]]:
    """Return the strategies, and the plan with all metrics that one of them needs: every trial is measured alike."""
    known = {*plan.plugins.strategies, *plan.settings.search.strategies}
    for title in titles:
        if title not in known:
            raise ConfigError(f"--strategies: no strategy named {title!r}{did_you_mean(title, known)}")
    names = dict.fromkeys(plan.settings.search.evaluation.metrics)
    for title in titles:
        search = plan.settings.search.model_copy(update={"strategy": title})
        one = replace(plan, settings=plan.settings.model_copy(update={"search": search}))
        names |= dict.fromkeys(metrics_of(one)[0])
    tables = dict(plan.run.overrides)
    search_table = dict(tables.get("search", {}))
    evaluation = {**search_table.get("evaluation", {}), "metrics": list(names)}
    tables["search"] = {**search_table, "strategy": titles[0], "evaluation": evaluation}
    plan = prepare(replace(plan.run, overrides=tables))
    return plan, {title: strategy_of(plan, title) for title in titles}
