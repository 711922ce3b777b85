"""Folders of runs for reports: written by what writes them in a run, with numbers that the tests know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from q2.config import to_toml
from q2.files import write_json, write_text
from q2.quant.recipe import Recipe
from q2.quant.sensitivity import signal_of
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

LAYERS = [f"blocks.{block}.{role}" for block in range(3) for role in ("attn.to_q", "attn.to_k", "ff.net.0")]
BITS = {"uaq-3": 3.1, "uaq-4": 4.1}


def trial(recipe: Mapping[str, str], number: int | None, quality: float, fidelity: str = "few-step") -> Trial:
    bits = sum(BITS.get(option, 16.0) for option in recipe.values()) / len(recipe)
    signal = signal_of(fidelity)
    metrics = {"avg_bits": bits, signal: quality}
    bounds = {signal: (quality - 0.5, quality + 0.5)}
    return Trial(recipe, metrics, bounds, fidelity, 7, number, strategy="random")


def mixed(count: int) -> dict[str, str]:
    """Return a recipe of four bits in the first `count` layers and three in the others."""
    return {layer: "uaq-4" if i < count else "uaq-3" for i, layer in enumerate(LAYERS)}


def many(number: int) -> dict[str, str]:
    """Return one of 6561 recipes."""
    options = ("kmeans-c-2", "kmeans-c-3", "kmeans-c-4")
    return {layer: options[number // 3**i % 3] for i, layer in enumerate(LAYERS)}


def search_folder(folder: Path, *, layers: Mapping[str, str] | None = None, copies: int = 0) -> Path:
    """Write a search: mixed recipes of 9 to 17 dB, two uniform ones, one failed, and each of two layers alone.

    `layers` renames layers; `copies` adds so many other trials of 5 dB.
    """
    names = {layer: (layers or {}).get(layer, layer) for layer in LAYERS}
    trials = [trial(mixed(count), count, 9.0 + count) for count in range(1, 9)]
    trials += [trial(mixed(0), 10, 8.0), trial(mixed(9), 11, 15.5)]
    trials.append(Trial(mixed(5) | {LAYERS[0]: "none"}, number=12, state="failed", error="out of <memory>", seed=7))
    alone = [(LAYERS[0], 20.0), (LAYERS[4], 10.0)]
    for layer, decibels in alone:
        trials.append(trial({n: "uaq-3" if n == layer else "none" for n in LAYERS}, None, decibels, "forward"))
    trials += [trial(many(number), 20 + number, 5.0) for number in range(copies)]
    renamed = [replace(each, recipe={names[layer]: each.recipe[layer] for layer in LAYERS}) for each in trials]
    TrialStore.open(folder / "trials", Fingerprint("net", "00ff", "0.1.0")).extend(renamed)
    best = {names[layer]: option for layer, option in mixed(6).items()}
    Recipe.of(best, "net", "00ff", 3.767).save(folder / "recipe.toml")
    search = {"target": "latent-SQNR", "constraints": ["avg_bits <= 3.8"], "evaluation": {"fidelity": "few-step"}}
    write_text(folder / "effective.toml", to_toml({"seed": 7, "denoiser": {"name": "net"}, "search": search}))
    write_json(folder / "report.json", {"denoiser": {"name": "net"}, **search_report(renamed)})
    write_json(folder / "manifest.json", {"versions": {"q2": "0.1.0"}})
    return folder


def search_report(trials: Sequence[Trial]) -> dict[str, object]:
    """Return what a search says of the trials that `search_folder` makes, the seventh of which was chosen."""
    known = {each.number: each for each in trials}

    def entry(number: int, *, allowed: bool) -> dict[str, object]:
        own = known[number]
        rest = {"metrics": dict(own.metrics), "intervals": {k: list(v) for k, v in own.intervals.items()}}
        return {"id": own.id, "target": own.metrics["latent-SQNR"], "allowed": allowed, **rest}

    return {
        "constraints": ["avg_bits <= 3.8"],
        "trials": {"complete": 10, "failed": 1},
        "verdict": "chosen: front-6.toml, target 15; the best baseline, uaq-3 everywhere, has 8",
        "front": [{"file": "recipe.toml", **entry(6, allowed=True)}],
        "baselines": [
            {"name": "uaq-3 everywhere", **entry(10, allowed=True)},
            {"name": "uaq-4 everywhere", **entry(11, allowed=False)},
            {
                "name": "uaq-2 everywhere",
                "id": "",
                "target": None,
                "allowed": None,
                "metrics": {},
                "error": "no memory",
            },
        ],
        "full precision": {
            "id": "",
            "target": None,
            "allowed": None,
            "metrics": {"latent-SQNR": 100.0, "avg_bits": 16.0},
        },
    }


def transform_folder(folder: Path) -> Path:
    """Write a transform with samples: white images at full precision, black ones quantized."""
    folder.mkdir()
    layers = {layer: {"option": option, "sqnr_db": 20.0} for layer, option in mixed(6).items()}
    passes = {
        "quantize": {"seconds": 1.5, "summary": "9 of 9 weight layers", "layers": layers},
        "size": {"seconds": 0.1, "summary": "", "avg_bits": 3.767, "bytes": 2_000_000, "full_bytes": 8_000_000},
    }
    accuracy = {"full": 0.98, "quantized": 0.96, "loss": 0.02, "low": -0.01, "high": 0.05}
    report = {"denoiser": {"name": "net"}, "passes": passes, "samples": {"images": 100, "accuracy": accuracy}}
    (folder / "report.json").write_text(json.dumps(report))
    Recipe.of(mixed(6), "net", "00ff", 3.767).save(folder / "recipe.toml")
    for name, colour in (("full.png", "white"), ("quantized.png", "black")):
        Image.new("RGB", (200, 100), colour).save(folder / name)
    return folder
