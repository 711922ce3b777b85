"""The commands that are disturbed, small enough to run many times, and what of them is the result."""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faulty.cluster import cluster
from q2.search.trials.store import TrialStore

__all__ = ["HALF", "ON_RAY", "SCENARIOS", "Scenario", "contents", "searching"]

ON_RAY = "search-ray"
DIT = ("denoiser.name=dit", "denoiser.tiny=true", "denoiser.device=cpu")
LITTLE = ("passes={}", "bank.options=['uaq-4','kmeans-c-3','kmeans-a-2']")
SEARCH = (
    "search.options=['uaq-4','uaq-3']",
    "bank.options=['uaq-4','uaq-3']",
    "search.evaluation.fidelity='forward'",
    "search.evaluation.inputs=2",
    "search.evaluation.few_steps=2",
    "search.target='SQNR - avg_bits'",
    "search.evaluation.metrics=[]",
    "search.baselines='off'",
    "samples.images=0",
)
ROWS = ("calibration.images=6", "calibration.steps=2", "calibration.batch=1", "calibration.rows=24")
TIMES = ("manifest.json", "report.json", "report.html", "log.txt", "curves.png", "front.png", "front.svg")
"""Files that say when and how fast something ran."""
HALF = "half-written"
"""Stands for the contents of what lies under a hidden name, beside what it is to become."""
Files = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """A command that writes below a folder; `resumes` is whether a second start goes on where the first was.

    `elsewhere` finds the processes that work for it but are not its descendants.
    """

    name: str
    args: Callable[[Path], Sequence[str]]
    resumes: bool = True
    prepare: Callable[[Path], None] | None = None
    elsewhere: Callable[[], Sequence[int]] = lambda: ()


def contents(folder: Path) -> Files:
    """Return what a folder holds, by path, but for what differs from run to run: times, machines, order of trials."""
    found: Files = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if any(part.startswith(".") for part in file.relative_to(folder).parts):
            found[name] = HALF
        elif file.name == "store.json":
            store = TrialStore.read(file.parent)
            found[name] = file.read_bytes()
            found["trials"] = sorted(_timeless(trial.to_json()) for trial in store)
            found["damaged"] = store.damaged
        elif file.suffix == ".json":
            if file.name not in TIMES:
                found[name] = _plain(json.loads(file.read_text(encoding="utf-8")))
        elif file.is_file() and file.suffix != ".jsonl" and file.name not in TIMES:
            found[name] = file.read_bytes().replace(str(folder).encode(), b"FOLDER")
    return found


def _timeless(text: str) -> str:
    trial = json.loads(text)
    trial.pop("seconds", None)
    return json.dumps(trial, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in ("_name_or_path", "seconds")}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def searching(at: Path, trials: int, *engine: str) -> list[str]:
    """Return the arguments of a search in a folder that fits its own bank."""
    sets = _sets(*DIT, *SEARCH, f"bank.path='{at / 'bank'}'", *(f"search.engine.{setting}" for setting in engine))
    return ["search", *sets, "--trials", str(trials), "--out", str(at / "found")]


def _graphs(folder: Path) -> None:
    rng, graphs = random.Random(0), []
    for _ in range(40):
        widths = [rng.random() for _ in range(4)]
        nodes = [{"unit": f"u{i // 2}", "op": rng.choice("ab"), "width": widths[i]} for i in range(4)]
        graphs.append({"nodes": nodes, "edges": [[0, 1], [1, 2], [2, 3]], "metrics": {"accuracy": sum(widths)}})
    (folder / "graphs.json").write_text(json.dumps({"graphs": graphs}), encoding="utf-8")


def _transform(at: Path) -> list[str]:
    sets = [*_sets(*DIT, "samples.images=0"), "--passes", "quantize{default=uaq-4},size"]
    return ["transform", *sets, "--out", str(at / "run"), "--save", str(at / "saved")]


def _predictor(at: Path) -> list[str]:
    how = ("--target", "accuracy", "--folds", "2", "--epochs", "2")
    return ["predictor", "train", "--graphs", str(at / "graphs.json"), *how, "--out", str(at / "predictor")]


def _train(at: Path) -> list[str]:
    sets = _sets("train.epochs=2", "train.steps=20")
    return ["train", "--config", "jsc-tiny.toml", *sets, "--out", str(at / "trained")]


SCENARIOS: Sequence[Scenario] = (
    Scenario("bank", lambda at: ["bank", *_sets(*DIT, *LITTLE), "--out", str(at / "bank")]),
    Scenario("calibrate", lambda at: ["calibrate", *_sets(*DIT, *ROWS), "--out", str(at / "rows")]),
    Scenario("search", lambda at: searching(at, 6, "workers=1")),
    Scenario(
        ON_RAY,
        lambda at: searching(at, 6, "workers=2", "name=ray", f"address={cluster().address}"),
        elsewhere=lambda: cluster().actors(),
    ),
    Scenario("transform", _transform, resumes=False),
    Scenario("predictor", _predictor, resumes=False, prepare=_graphs),
    Scenario("train", _train, resumes=False),
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
