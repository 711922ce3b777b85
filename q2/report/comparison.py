"""What a report says of a comparison of strategies: who is ahead after how many trials."""

from collections.abc import Mapping
from typing import Any

from q2.report.folder import RunFolder
from q2.report.parts import Chart, Section, Summary, Table, number

__all__ = ["comparison_page"]


def comparison_page(run: RunFolder) -> Summary:
    """Return the page of the folder that ``q2 search compare`` wrote."""
    strategies: Mapping[str, Any] = run.report.get("strategies", {})
    last = {name: each["best target"][-1] for name, each in strategies.items() if each.get("best target")}
    ranked = sorted(last.items(), key=lambda item: -item[1]["mean"])
    rows = [[name, each["mean"], each["low"], each["high"], len(strategies[name]["seeds"])] for name, each in ranked]
    table = Table(
        ["strategy", "best target, mean", "from", "to", "seeds"], rows, "After the last trial; 95 % intervals."
    )
    verdict = ""
    if len(ranked) > 1:
        (first, best), (second, next_best) = ranked[:2]
        apart = best["low"] > next_best["high"]
        verdict = f"{first} is ahead of {second}, {number(best['mean'])} to {number(next_best['mean'])}: " + (
            "the intervals do not overlap." if apart else "the intervals overlap, so this may be chance."
        )
    subtitle = f"comparison of strategies by {run.report.get('target', 'the target')}"
    figures = [(str(run.report.get("trials", "")), "trials a search"), (str(len(strategies)), "strategies")]
    return Summary(run.title, subtitle, verdict, figures, [table, _curves(strategies)], [_budgets(run, strategies)])


def _curves(strategies: Mapping[str, Any]) -> Chart:
    rows = [
        {"strategy": name, "trial": count} | point
        for name, each in strategies.items()
        for count, point in enumerate(each.get("best target", []), 1)
    ]
    x = {"field": "trial", "type": "quantitative", "title": "trials"}
    colour = {"field": "strategy", "type": "nominal", "legend": {"orient": "top", "title": None}}
    y = {"field": "mean", "type": "quantitative", "scale": {"zero": False}, "title": "best target"}
    band = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    spec = {
        "data": {"values": rows},
        "height": 300,
        "encoding": {"x": x, "color": colour},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.15}, "encoding": band},
            {"mark": {"type": "line", "tooltip": True}, "encoding": {"y": y}},
        ],
    }
    return Chart(spec, "best target after so many trials, by strategy", "Bands are 95 % intervals over seeds.")


def _budgets(run: RunFolder, strategies: Mapping[str, Any]) -> Section:
    """Return what each strategy reached within sizes, and its hypervolume: mean and 95 % interval."""
    sizes = [point["avg_bits"] for each in [*strategies.values()][:1] for point in each["quality"]]
    quality = run.report.get("quality", "quality")
    heads = ["strategy", "hypervolume", *(f"{quality} at ≤ {number(bits)} bits" for bits in sizes)]
    rows = [
        [name, _shown(each["hypervolume"]), *(_shown(point) for point in each["quality"])]
        for name, each in strategies.items()
    ]
    return Section("Within sizes", [Table(heads, rows, "Mean and 95 % interval over seeds.")])


def _shown(estimate: Mapping[str, float | None]) -> str:
    mean, low, high = (estimate.get(key) for key in ("mean", "low", "high"))
    if mean is None or low is None or high is None:
        return "–"
    return f"{number(mean)} ({number(low)} to {number(high)})"
