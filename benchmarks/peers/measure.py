"""Measuring a setting: its weights are put into the denoiser, and its images compared with full precision's."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch

import q2
from q2.denoisers import Samples
from q2.files import write_text
from q2.search.metrics.base import Chunk
from q2.search.metrics.finite import NotFiniteError
from q2.search.metrics.judged import JudgeFidFull
from q2.settings import EvaluationSettings

from .bits import Kept, Layer, Setting, average_bits, score

__all__ = ["Bench", "Results", "Row"]

SEED, OTHER_SEED = 5, 11  # of the images that are reported, and of those that choose between details
Row = dict[str, str | int | float | None]


class Results:
    """Rows in a file, one JSON line each, so that a run that is stopped goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith("\n"):  # a run was stopped while it wrote
            lines.pop()
            write_text(path, "".join(lines))
        self.rows: list[Row] = [json.loads(line) for line in lines]

    def find(self, key: Row) -> Row | None:
        """Return the row that has these values."""
        return next((row for row in self.rows if all(row.get(name) == value for name, value in key.items())), None)

    def add(self, row: Row) -> None:
        """Write a row to the file."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")


class Bench:
    """A denoiser whose weights are exchanged. `images` are compared, `few` choose between a method's details."""

    def __init__(self, name: str, results: Results, images: int, few: int) -> None:
        self.denoiser, self.results, self.images, self.few = q2.denoiser(name), results, images, few
        graph = q2.trace(self.denoiser.model, self.denoiser.example_inputs())
        modules = {layer: self.denoiser.model.get_submodule(layer) for layer in graph.weight_layers}
        self.weights = {layer: module.get_parameter("weight") for layer, module in modules.items()}
        self.layers = [
            Layer(layer, type(module).__name__, self.weights[layer].detach().clone())
            for layer, module in modules.items()
        ]
        self.full = cache(self.denoiser.generate)
        self.fid = JudgeFidFull(self.denoiser, EvaluationSettings())

    def best(self, settings: Sequence[Setting], version: str) -> Row:
        """Choose among settings of a method at a width, by few images of another seed; measure it in full."""
        chosen = settings[0]
        if len(settings) > 1:
            tried = [(self.row(setting, version, self.few, OTHER_SEED), setting) for setting in settings]
            chosen = max(tried, key=lambda pair: _score(pair[0]))[1]
        return self.row(chosen, version, self.images, SEED)

    def row(self, setting: Setting, version: str, images: int, seed: int) -> Row:
        """Return what a setting gives, from the file where it is there."""
        about: Row = {"method": setting.method, "bits": setting.bits, "detail": setting.detail}
        key: Row = {"denoiser": self.denoiser.name, **about, "version": version, "images": images, "seed": seed}
        found = self.results.find(key)
        if found is None:
            found = {**key, **self._measure(setting, images, seed)}
            self.results.add(found)
            print(_said(found), flush=True)
        return found

    def _measure(self, setting: Setting, images: int, seed: int) -> Row:
        full = self.full(images, seed=seed)
        start = time.perf_counter()
        with torch.no_grad():
            kept = [(layer, setting.quantize(layer)) for layer in self.layers]
            fitted = time.perf_counter()
            try:
                for layer, found in kept:
                    if found is not None:
                        self.weights[layer.name].copy_(found.weight)
                made = self.denoiser.generate(images, seed=seed)
            finally:
                for layer in self.layers:
                    self.weights[layer.name].copy_(layer.weight)
        left = sum(layer.weight.numel() for layer, found in kept if found is None)
        return {
            "avg_bits": average_bits(kept),
            "packed_bits": average_bits(kept, packed=True),
            "left": left / sum(layer.weight.numel() for layer in self.layers),
            "latent_sqnr": _finite(latent_sqnr(made, full)),
            "weight_sqnr": _finite(weight_sqnr(kept)),
            "judge_fid_fp": self._fid(made, full),
            "fit_seconds": round(fitted - start, 2),
            "seconds": round(time.perf_counter() - start, 2),
        }

    def _fid(self, made: Samples, full: Samples) -> float | None:
        try:
            rows = self.fid.rows(Chunk(made, full))
        except NotFiniteError:
            return None
        other = self.fid.rows(Chunk(full, full))
        return self.fid.value(rows, other, full.labels.numpy()).value


def latent_sqnr(made: Samples, full: Samples) -> float:
    """Return the SQNR of the latents in dB: sums of squares over all images, in float64."""
    signal, noise = full.latents.double(), (full.latents - made.latents).double()
    return float(10 * torch.log10((signal**2).sum() / (noise**2).sum()))


def weight_sqnr(kept: Sequence[tuple[Layer, Kept | None]]) -> float:
    """Return the SQNR of all quantized weights together, in dB."""
    pairs = [(layer.weight.double(), found.weight.double()) for layer, found in kept if found is not None]
    signal = sum(float((weight**2).sum()) for weight, _ in pairs)
    noise = sum(float(((weight - made) ** 2).sum()) for weight, made in pairs)
    return 10 * math.log10(signal / noise) if signal and noise else math.nan


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _score(row: Row) -> float:
    sqnr, bits = row["latent_sqnr"], row["avg_bits"]
    return score(float(sqnr), float(bits or 0)) if sqnr is not None else -math.inf


def _said(row: Row) -> str:
    sqnr = "not finite" if row["latent_sqnr"] is None else f"{row['latent_sqnr']:.2f} dB"
    name = " ".join(str(row[key]) for key in ("method", "bits", "detail"))
    return f"{row['denoiser']}, {row['images']} images: {name}: {row['avg_bits']:.3f} bits, {sqnr}, {row['seconds']} s"


def grouped(settings: Sequence[Setting]) -> Iterator[list[Setting]]:
    """Yield the settings of each method at each width together, in their order."""
    groups: dict[tuple[str, int], list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.method, setting.bits), []).append(setting)
    yield from groups.values()
