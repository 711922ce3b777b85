"""The commands that are disturbed, small enough to run many times, and what of them is the result."""

import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SCENARIOS", "Scenario", "contents"]

DIT = ("denoiser.name=dit", "denoiser.tiny=true", "denoiser.device=cpu")
LITTLE = ("passes={}", "bank.options=['uaq-4','kmeans-c-3','kmeans-a-2']")
SEARCH = (
    "search.options=['uaq-4','uaq-3']",
    "bank.options=['uaq-4','uaq-3']",
    "search.evaluation.fidelity='forward'",
    "search.evaluation.inputs=2",
    "search.evaluation.few_steps=2",
    "search.target='SQNR - avg_bits'",
    "search.baselines='off'",
    "search.engine.workers=1",
    "samples.images=0",
)
ROWS = ("calibration.images=6", "calibration.steps=2", "calibration.batch=1", "calibration.rows=24")
Files = dict[str, Any]


@dataclass(frozen=True)
class Scenario:
    """A command that writes below a folder; `resumes` is whether a second start goes on where the first was."""

    name: str
    args: Callable[[Path], Sequence[str]]
    result: str
    resumes: bool = True
    prepare: Callable[[Path], None] | None = None


def contents(folder: Path) -> Files:
    """Return what a folder holds, by path, but for what differs from run to run: times, machines, order of trials."""
    found: Files = {}
    trials: set[str] = set()
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_dir() or file.name in ("manifest.json", "report.json", "curves.png", "front.png"):
            continue
        if file.suffix == ".jsonl":
            trials |= {_timeless(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")}
        elif file.suffix == ".json" and "trials" not in name:
            found[name] = _plain(json.loads(file.read_text(encoding="utf-8")))
        else:
            found[name] = file.read_bytes()
    return found | ({"trials": sorted(trials)} if trials else {})


def _timeless(line: str) -> str:
    trial = json.loads(line)["trial"]
    trial.pop("seconds", None)
    return json.dumps(trial, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if key not in ("_name_or_path", "seconds")}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _sets(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def _graphs(folder: Path) -> None:
    rng, graphs = random.Random(0), []
    for _ in range(40):
        widths = [rng.random() for _ in range(4)]
        nodes = [{"unit": f"u{i // 2}", "op": rng.choice("ab"), "width": widths[i]} for i in range(4)]
        graphs.append({"nodes": nodes, "edges": [[0, 1], [1, 2], [2, 3]], "metrics": {"accuracy": sum(widths)}})
    (folder / "graphs.json").write_text(json.dumps({"graphs": graphs}), encoding="utf-8")


SCENARIOS: Sequence[Scenario] = (
    Scenario("bank", lambda at: ["bank", *_sets(*DIT, *LITTLE), "--out", str(at / "bank")], "bank"),
    Scenario("calibrate", lambda at: ["calibrate", *_sets(*DIT, *ROWS), "--out", str(at / "rows")], "rows"),
    Scenario(
        "search",
        lambda at: (
            ["search", *_sets(*DIT, *SEARCH, f"bank.path='{at / 'bank'}'"), "--trials", "6", "--out", str(at / "found")]
        ),
        "found",
    ),
    Scenario(
        "transform",
        lambda at: (
            [
                "transform",
                *_sets(*DIT, "samples.images=0", "passes={quantize={default='uaq-4'},size={}}"),
                "--out",
                str(at / "run"),
                "--save",
                str(at / "saved"),
            ]
        ),
        ".",
        resumes=False,
    ),
    Scenario(
        "predictor",
        lambda at: (
            [
                "predictor",
                "train",
                "--graphs",
                str(at / "graphs.json"),
                "--target",
                "accuracy",
                "--folds",
                "2",
                "--epochs",
                "2",
                "--out",
                str(at / "predictor"),
            ]
        ),
        "predictor",
        resumes=False,
        prepare=_graphs,
    ),
    Scenario(
        "train",
        lambda at: (
            [
                "train",
                "--config",
                "jsc-tiny.toml",
                *_sets("train.epochs=2", "train.steps=20"),
                "--out",
                str(at / "trained"),
            ]
        ),
        "trained",
        resumes=False,
    ),
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
