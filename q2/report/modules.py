"""What a report says of modules that are no denoisers: a test before and after, and a search over lists of settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from q2.report.folder import RunFolder
from q2.report.parts import Chart, Section, Summary, Table, number
from q2.search.trials.trial import Trial

__all__ = ["module_search_page", "tested"]


def tested(run: RunFolder) -> Table | None:
    """Return how a module did on the test data before and after its passes; None where it was not evaluated."""
    found = run.report.get("test")
    if not isinstance(found, dict) or not found:
        return None
    names = list(dict.fromkeys(name for each in found.values() for name in each))
    return Table(["", *names], [[when, *(each.get(name) for name in names)] for when, each in found.items()])


def module_search_page(run: RunFolder) -> Summary:
    """Return the page of a search over lists: its objectives against each other, the front, and all trials."""
    trials = [trial for trial in run.trials if trial.state == "complete"]
    objectives = list(run.settings.get("search", {}).get("metrics", {}))
    measured = list(dict.fromkeys([*objectives, *(name for trial in trials for name in trial.metrics)]))
    known: Sequence[Mapping[str, Any]] = run.report.get("front", [])
    front = [trial for trial in trials if any(dict(trial.recipe) == each.get("recipe") for each in known)]
    charts = [_objectives(trials, front, *objectives[:2])] if len(objectives) > 1 and trials else []
    failed = len(run.trials) - len(trials)
    figures = [(str(len(trials)), f"complete trials, {failed} failed"), (str(len(front)), "on the front")]
    subtitle = f"search in {run.report.get('space', 'lists')} for {run.report.get('target', ', '.join(objectives))}"
    sections = [Section("Trials", [_table(trials, measured, long=True)])]
    return Summary(run.title, subtitle, "", figures, [_table(front, measured, "The front."), *charts], sections)


def _table(trials: Sequence[Trial], names: Sequence[str], caption: str = "", *, long: bool = False) -> Table:
    rows = [
        [trial.number, *(trial.metrics.get(name) for name in names), _settings(trial)] for trial in trials
    ]  # fmt: skip
    return Table(["trial", *names, "settings"], rows, caption, long=long)


def _settings(trial: Trial) -> str:
    return ", ".join(f"{name} {text}" for name, text in trial.recipe.items())


def _objectives(trials: Sequence[Trial], front: Sequence[Trial], first: str, second: str) -> Chart:
    chosen = {trial.id for trial in front}
    rows = [
        {"x": t.metrics[second], "y": t.metrics[first], "kind": "front" if t.id in chosen else "trial",
         "what": t.label, "shown": f"{number(t.metrics[first])}, {number(t.metrics[second])}", "settings": _settings(t)}
        for t in trials if {first, second} <= t.metrics.keys()
    ]  # fmt: skip
    scale = {"domain": ["trial", "front"], "range": ["#7b8794", "#1f6feb"]}
    axes = {
        axis: {"field": axis, "type": "quantitative", "scale": {"zero": False}, "title": title}
        for axis, title in (("x", second), ("y", first))
    }
    colour = {"field": "kind", "scale": scale, "legend": {"orient": "top", "title": None}}
    tips = [{"field": key} for key in ("what", "shown", "settings")]
    spec = {
        "data": {"values": rows},
        "height": 300,
        "mark": {"type": "point", "filled": True, "size": 60},
        "encoding": {**axes, "color": colour, "tooltip": tips},
    }
    return Chart(spec, f"{first} against {second} of {len(rows)} trials", "Point at a trial for its settings.")
