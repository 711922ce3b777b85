"""How well a metric's interval says what other evaluation seeds give.

    python benchmarks/intervals.py digits-dit --folder DIR [--seeds 14] [--option kmeans-c-3] [--images 200]

Draws one recipe's images, and full precision's, from the noise of many values of ``search.evaluation.seed``, keeps in
DIR what the metrics make of them, and resumes there. Prints a Markdown table: the mean half-width of the intervals
beside 1.96 standard deviations of the values over seeds. Fourteen seeds tell that to a fifth only. Image i
depends on (seed, i) alone, so "recombined" takes it from sets with each image i of a seed of its own, many times.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from q2.config import RunFile
from q2.denoisers.recorded import outputs_of
from q2.passes.transform.apply import apply_options
from q2.quant import Option
from q2.search.evaluation.reference import Reference, drawn
from q2.search.metrics.base import Array, Chunk, ForwardMetric, ImageMetric, Outputs
from q2.search.metrics.contract import estimate_of, value_of
from q2.search.metrics.intervals import Estimate
from q2.session.evaluation import Loaded, load, make_ready
from q2.session.session import Session

METRICS = ("SQNR", "latent-SQNR", "PSNR", "SSIM", "judge-accuracy", "judge-fid", "judge-fid-fp")
CALLS = ("made", "full", "seconds", "images", "labels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=("digits-dit", "digits-sdxl"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=14)
    parser.add_argument("--option", default="kmeans-c-3")
    parser.add_argument("--images", type=int, default=0, help="0: as many as the shipped run file")
    parser.add_argument("--inputs", type=int, default=32)
    parser.add_argument("--recombined", type=int, default=400)
    options = parser.parse_args()
    sets = [f"search.evaluation.metrics={list(METRICS)}".replace("'", '"'), "search.target=latent-SQNR"]
    sets += [f"search.evaluation.inputs={options.inputs}"]
    sets += [f"search.evaluation.images={options.images}"] if options.images else []
    loaded = load(Session(RunFile.load(f"{options.name}.toml", sets)))
    rows = sample(loaded, options.folder, options.name, options.seeds, options.option)
    images, inputs = (getattr(loaded.session.settings.search.evaluation, key) for key in ("images", "inputs"))
    print(f"\n{options.name}, {options.option}, {options.seeds} seeds, {images} images, {inputs} inputs\n")
    print("| metric | mean | half-width | 1.96 sd over seeds | ratio | 1.96 sd, recombined | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    mixed = recombined(rows, options.recombined)
    for metric in loaded.metrics:
        if metric.name in METRICS:
            line(metric.name, [value(metric, found) for found in rows], [value(metric, found) for found in mixed])


def sample(loaded: Loaded, folder: Path, name: str, seeds: int, option: str) -> list[Mapping[str, Array]]:
    """Return what metrics need of every seed's images, made where it is not in the folder yet."""
    settings = loaded.session.settings.search.evaluation
    own = folder / f"{name}-{settings.images}-{settings.inputs}-{settings.steps or 'all'}"
    paths = [own / f"{option}-{seed}.npz" for seed in range(seeds)]
    metrics = [metric for metric in loaded.metrics if isinstance(metric, ImageMetric)]
    references = {}
    for seed, path in enumerate(paths):
        if not path.exists():
            references[path] = Reference(own / str(seed), settings.model_copy(update={"seed": seed}))
            took = references[path].make(loaded.denoiser, loaded.graph, ["full"], loaded.metrics)
            print(f"{path}: full precision in {took:.1f} s", flush=True)
    if references:
        ready = make_ready(loaded, None)
        recipe = {layer: Option.parse(option) for layer in ready.space.layers}
        apply_options(ready.graph, recipe, ready.ctx)
    for path, reference in references.items():
        start = time.perf_counter()
        beside = path.with_suffix(".part.npz")
        np.savez(beside, allow_pickle=False, **measured(loaded, reference, metrics))
        beside.rename(path)
        print(f"{path}: {time.perf_counter() - start:.1f} s", flush=True)
    return [dict(np.load(path)) for path in paths]


def measured(loaded: Loaded, reference: Reference, metrics: list[ImageMetric]) -> dict[str, Array]:
    """Return the denoiser's outputs, and every metric's rows of the quantized images and of full precision's."""
    calls = [(call, outputs_of(loaded.denoiser, loaded.graph, call)) for call in reference.calls()]
    parts = [(made.double(), call.output.double(), np.zeros(1), call.images, call.labels) for call, made in calls]
    found = {f"call {key}": np.concatenate(entry) for key, entry in zip(CALLS, zip(*parts, strict=True), strict=True)}
    rows: dict[str, list[Array]] = {metric.name: [] for metric in metrics}
    labels = []
    for chosen in reference.chunks("full"):
        made = drawn(loaded.denoiser, loaded.graph, chosen, reference.settings, "full")
        chunk = Chunk(made, reference.samples("full", chosen))
        labels.append(made.labels)
        for metric in metrics:
            rows[metric.name].append(metric.rows(chunk))
    for metric in metrics:
        found[f"rows {metric.name}"] = np.concatenate(rows[metric.name])
        other = reference.rows("full", metric)
        if other is not None:  # a row each of the same images
            found[f"other {metric.name}"] = other
    return found | {"labels": np.concatenate(labels)}


def value(metric: object, found: Mapping[str, Array]) -> Estimate:
    """Return a metric's value of one seed, with its interval."""
    if isinstance(metric, ForwardMetric):
        made, full, seconds, images, labels = (found[f"call {key}"] for key in CALLS)
        outputs = Outputs(made, full, seconds, images.astype(np.int64), labels.astype(np.int64))
        return estimate_of(metric.value(outputs), metric.bounds)
    assert isinstance(metric, ImageMetric)
    rows, other = found[f"rows {metric.name}"], found.get(f"other {metric.name}")
    return value_of(metric, rows, other, found["labels"].astype(np.int64))


def recombined(rows: list[Mapping[str, Array]], draws: int) -> list[Mapping[str, Array]]:
    """Return sets whose image i is that of a seed drawn for it, with all its rows."""
    rng, found = np.random.default_rng(0), list[Mapping[str, Array]]()
    images, calls = np.arange(len(rows[0]["labels"])), rows[0]["call images"].astype(np.int64)
    stacked = {key: np.stack([entry[key] for entry in rows]) for key in rows[0] if key != "call seconds"}
    for _ in range(draws):
        seeds = rng.integers(len(rows), size=max(len(images), calls.max() + 1))
        picked = {"call seconds": rows[0]["call seconds"]}
        for key, values in stacked.items():
            which = calls if key.startswith("call") else images
            picked[key] = values[seeds[which], np.arange(len(which))]
        found.append(picked)
    return found


def line(name: str, estimates: list[Estimate], mixed: list[Estimate]) -> None:
    values = np.array([estimate.value for estimate in estimates])
    half = float(np.mean([(estimate.high - estimate.low) / 2 for estimate in estimates]))
    spread = 1.96 * float(values.std(ddof=1))
    sharper = 1.96 * float(np.std([estimate.value for estimate in mixed])) * np.sqrt(len(values) / (len(values) - 1))
    cells = [f"`{name}`", f"{values.mean():.4g}", f"{half:.3g}", f"{spread:.3g}", f"{half / spread:.2f}"]
    print("| " + " | ".join([*cells, f"{sharper:.3g}", f"{half / sharper:.2f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
