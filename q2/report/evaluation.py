"""What a report says of an evaluation: given recipes side by side, and which differences are no chance."""

from collections.abc import Mapping
from typing import Any

from q2.report.folder import RunFolder
from q2.report.parts import Section, Summary, Table, number, short
from q2.search.trials.trial import FULL_PRECISION

__all__ = ["evaluation_page"]


def evaluation_page(run: RunFolder) -> Summary:
    """Return the page of the folder that ``q2 evaluate`` wrote."""
    recipes: Mapping[str, Any] = run.report.get("recipes", {})
    full = run.report.get(FULL_PRECISION, {})
    measured = {**recipes, FULL_PRECISION: full} if full else recipes
    names = list(dict.fromkeys(name for each in measured.values() for name in each.get("metrics", {})))
    rows = [[short(title), *(_shown(each, name) for name in names)] for title, each in measured.items()]
    first = Table(["recipe", *names], rows, "In brackets: 95 % intervals.")
    beside = short(str(run.report.get("beside", "")))
    differences: Mapping[str, Any] = run.report.get("differences", {})
    lines = [
        [short(title), name, each["value"], each["low"], each["high"], each["verdict"]]
        for title, of in differences.items()
        for name, each in of.items()
    ]
    verdicts = [f"{title} {name}: {verdict}" for title, name, *_, verdict in lines]
    table = Table(["recipe", "metric", "difference", "from", "to", "verdict"], lines)
    text = f"To {beside}, from the same noise, image by image; 95 % intervals."
    sections = [Section("Differences", [table], text)] if lines else []
    return Summary(
        run.title, "evaluation", "; ".join(verdicts[:3]), [(str(len(recipes)), "recipes")], [first], sections
    )


def _shown(trial: Mapping[str, Any], name: str) -> str:
    value = trial.get("metrics", {}).get(name)
    if value is None:
        return ""
    low_high = trial.get("intervals", {}).get(name)
    return number(value) + (f" ({number(low_high[0])} to {number(low_high[1])})" if low_high else "")
