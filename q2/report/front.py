"""The front of a search as a chart: quality against bits, with the baselines and the chosen recipe."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from q2.report.parts import Chart, number
from q2.report.recipes import summary
from q2.search.metrics.base import Metric
from q2.search.metrics.pareto import pareto_front
from q2.search.trials.trial import FULL_PRECISION, Trial

__all__ = ["SIZE", "front"]

SIZE = "avg_bits"
_COLOURS = {"trial": "#7b8794", "front": "#1f6feb", "baseline": "#b35900", "chosen": "#c62828"}


def front(
    trials: Sequence[Trial],
    quality: type[Metric],
    value: Callable[[Trial], float],
    *,
    chosen: str,
    baselines: Mapping[str, str],
    level: float | None,
) -> Chart:
    """Return quality against bits of all trials that have both; a line joins those on the front.

    `chosen` is a trial's id, `baselines` are names by ids, `level` is full precision's quality, whose bits are far from
    all others', and `value` returns the target's value of a trial.
    """
    name, sign = quality.name, quality.sign()
    known = [trial for trial in trials if {SIZE, name} <= trial.metrics.keys()]
    on = pareto_front([(each.metrics[SIZE], -sign * each.metrics[name]) for each in known])
    rows: list[dict[str, Any]] = []
    for trial, keep in zip(known, on, strict=True):
        kind = "baseline" if trial.id in baselines else "front" if keep else "trial"
        rows.append(
            {
                "bits": round(trial.metrics[SIZE], 4),
                "value": trial.metrics[name],
                "shown": trial.shown(name),
                "target": number(value(trial)),
                "what": baselines.get(trial.id, trial.label),
                "recipe": summary(trial.recipe),
                "kind": "chosen" if trial.id == chosen else kind,
                "front": bool(keep),
            }
        )
    title = f"{name} ({quality.unit})" if quality.unit else name
    note = "Point at a trial for its recipe."
    return Chart(
        _spec(rows, level, title, reverse=sign < 0), f"{title} against average bits of {len(rows)} trials", note
    )


def _spec(rows: Sequence[Mapping[str, Any]], level: float | None, title: str, *, reverse: bool) -> dict[str, Any]:
    x = {"field": "bits", "type": "quantitative", "scale": {"zero": False}, "title": "average bits of a weight"}
    y = {"field": "value", "type": "quantitative", "scale": {"zero": False, "reverse": reverse}, "title": title}
    scale = {"domain": list(_COLOURS), "range": list(_COLOURS.values())}
    colour = {"field": "kind", "scale": scale, "legend": {"orient": "top", "title": None}}
    size = {"condition": {"test": "datum.kind == 'chosen'", "value": 170}, "value": 45}
    tips = [{"field": key} for key in ("what", "bits", "shown", "target", "recipe")]
    line = {"type": "line", "color": _COLOURS["front"], "strokeWidth": 1.5}
    point = {"type": "point", "filled": True, "opacity": 0.75}
    points = {"x": x, "y": y, "color": colour, "size": size, "tooltip": tips}
    layers: list[dict[str, Any]] = [
        {"transform": [{"filter": "datum.front"}], "mark": line, "encoding": {"x": x, "y": y}},
        {"mark": point, "encoding": points},
    ]
    if level is not None:
        levels = {"values": [{"value": level, "what": FULL_PRECISION}]}
        dashes = {"type": "rule", "strokeDash": [5, 4], "color": _COLOURS["trial"]}
        shown = {"y": y, "tooltip": [{"field": "what"}, {"field": "value"}]}
        layers.insert(0, {"data": levels, "mark": dashes, "encoding": shown})
    return {"data": {"values": rows}, "height": 300, "layer": layers}
