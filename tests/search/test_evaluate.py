"""The evaluator measures what the recipe does to the denoiser, against what full precision gave."""

from pathlib import Path

import numpy as np
import pytest
import torch

import q2
from q2.config import RunFile
from q2.ready import Loader, bank_of, load, make_reference, places_of
from q2.runs import prepare
from q2.search.evaluate import Evaluator, Job, metrics_at
from q2.search.metrics.base import Array, Chunk, ImageMetric
from q2.search.metrics.costs import AvgBits
from q2.search.metrics.judged import JudgeAccuracy
from q2.search.metrics.outputs import Sqnr
from q2.search.reference import Reference, outputs_of
from q2.settings import EvaluationSettings

NAMES = ["SQNR", "latency", "latent-SQNR", "PSNR", "SSIM", "judge-accuracy", "judge-fid", "judge-fid-fp"]
SETS = [
    "search.evaluation.images=6",
    "search.evaluation.batch=4",
    "search.evaluation.steps=2",
    "search.evaluation.few_images=3",
    "search.evaluation.few_steps=2",
    "search.evaluation.inputs=4",
    f"search.evaluation.metrics={NAMES}".replace("'", '"'),
    'bank.options=["kmeans-c-4", "uaq-3"]',
    "samples.images=0",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the bank and full precision's side, as a search makes them."""
    folder = tmp_path_factory.mktemp("run")
    loaded = load(prepare(RunFile.load("digits-dit.toml", SETS)))
    bank_of(loaded.plan, loaded.graph, loaded.denoiser, folder)
    assert make_reference(loaded, folder, ["few-step", "full"]) > 0
    return folder


@pytest.fixture(scope="module")
def worker(folder: Path) -> Evaluator:
    run = RunFile.load("digits-dit.toml", SETS)
    made = Loader(run)()(places_of(prepare(run), folder))
    assert isinstance(made, Evaluator)
    return made


def recipe(worker: Evaluator, option: str) -> dict[str, str]:
    return dict.fromkeys(worker.costs.space.layers, option)


def test_a_full_trial_has_every_metric_and_the_intervals_of_estimates(worker: Evaluator) -> None:
    trial = worker(Job(recipe(worker, "kmeans-c-4"), "full", number=3, strategy="random")).trial
    assert trial.state == "complete", trial.error
    assert set(NAMES) <= set(trial.metrics)
    assert {"avg_bits", "quantized_size", "model_size", "bops", "quantized_error"} <= set(trial.metrics)
    assert set(trial.intervals) == set(NAMES)
    low, high = trial.intervals["latent-SQNR"]
    assert low < trial.metrics["latent-SQNR"] < high
    assert (trial.number, trial.strategy, trial.fidelity) == (3, "random", "full")


def test_an_estimate_has_its_interval_even_where_nothing_varies_and_never_beyond_its_bounds(worker: Evaluator) -> None:
    class Same(ImageMetric):
        name = "same"
        better = "higher"

        def rows(self, chunk: Chunk) -> Array:
            return np.ones(len(chunk.made.images))

    settings = worker.settings
    one = Evaluator(
        worker.denoiser,
        worker.graph,
        worker.ctx,
        worker.costs,
        [Same(worker.denoiser, settings)],
        settings,
        worker.reference,
    )
    trial = one(Job(recipe(worker, "uaq-3"), "full")).trial
    assert trial.intervals == {"same": (1, 1)}
    assert trial.shown("same") == "1 ± 0"
    poor = worker(Job(recipe(worker, "uaq-3"), "full")).trial
    for metric in worker.metrics:
        if metric.estimate:
            low, high = poor.intervals[metric.name]
            assert metric.bounds[0] <= low <= poor.metrics[metric.name] <= high <= metric.bounds[1]


def test_inputs_of_a_call_say_which_image_they_lie_on_the_way_to(tmp_path: Path) -> None:
    """Five images in batches of two, in two steps each: six calls."""
    settings = EvaluationSettings(inputs=10, few_steps=2, batch=2, images=2, seed=3)
    denoiser = q2.denoiser("digits-dit")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    reference = Reference(tmp_path, settings)
    reference.make(denoiser, graph, ["forward"], [], outputs=True)
    calls = list(reference.calls())
    images = [call.images.tolist() for call in calls]
    assert images == [[0, 1], [0, 1], [2, 3], [2, 3], [4], [4]]
    assert [call.labels.tolist() for call in calls] == images
    alone = denoiser.generate(1, first=4, seed=3, steps=2)
    assert alone.labels.tolist() == [4]


def test_a_worse_recipe_is_worse_and_switching_back_is_exact(worker: Evaluator) -> None:
    better = worker(Job(recipe(worker, "kmeans-c-4"), "full")).trial
    worse = worker(Job(recipe(worker, "uaq-3"), "full")).trial
    again = worker(Job(recipe(worker, "kmeans-c-4"), "full")).trial
    for name in ("SQNR", "latent-SQNR", "PSNR", "SSIM"):
        assert worse.metrics[name] < better.metrics[name]
    del_latency = {name: value for name, value in again.metrics.items() if name != "latency"}
    assert del_latency == {name: value for name, value in better.metrics.items() if name != "latency"}


def test_cheaper_fidelities_measure_what_they_reach(worker: Evaluator) -> None:
    option = recipe(worker, "uaq-3")
    free, forward, few = (worker(Job(option, fidelity)).trial for fidelity in ("weights", "forward", "few-step"))
    assert not set(free.metrics) & set(NAMES)
    assert set(forward.metrics) & set(NAMES) == {"SQNR", "latency"}
    assert set(few.metrics) >= set(NAMES)
    full = worker(Job(option, "full")).trial
    assert few.metrics["SQNR"] == full.metrics["SQNR"]
    assert few.metrics["PSNR"] != full.metrics["PSNR"]
    assert metrics_at("forward", [AvgBits, Sqnr, JudgeAccuracy]) == [AvgBits, Sqnr]


def test_where_the_time_goes_is_told(worker: Evaluator) -> None:
    result = worker(Job(recipe(worker, "kmeans-c-4"), "full"))
    assert result.spent["sample"] > 0
    assert sum(result.spent.values()) <= result.trial.seconds + 0.01


def test_a_recipe_that_cannot_be_measured_is_a_failed_trial(worker: Evaluator) -> None:
    trial = worker(Job({"no_such_layer": "uaq-3"}, "full", number=1)).trial
    assert (trial.state, trial.number) == ("failed", 1)
    assert "no such layer in the search space" in trial.error
    assert "\n" not in trial.error


def test_full_precision_against_itself_is_perfect(folder: Path) -> None:
    settings = prepare(RunFile.load("digits-dit.toml", SETS)).settings.search.evaluation
    reference = Reference(folder / "reference", settings)
    denoiser = q2.denoiser("digits-dit")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    calls = list(reference.calls())
    assert len(calls) == settings.few_steps
    for call in calls:
        torch.testing.assert_close(outputs_of(denoiser, graph, call), call.output)
    assert [len(chosen) for chosen in reference.chunks("full")] == [4, 2]
    made = denoiser.generate(2, first=4, seed=settings.seed, steps=settings.steps)
    kept = reference.samples("full", range(4, 6))
    np.testing.assert_allclose(kept.images, made.images, atol=0.5 / 255 + 1e-6)
    torch.testing.assert_close(kept.latents, made.latents)
    assert kept.labels.tolist() == made.labels.tolist() == [4, 5]


def test_a_reference_that_is_there_is_not_made_again(folder: Path) -> None:
    loaded = load(prepare(RunFile.load("digits-dit.toml", SETS)))
    before = {path: path.stat().st_mtime_ns for path in (folder / "reference").rglob("*") if path.is_file()}
    assert before
    make_reference(loaded, folder, ["few-step", "full"])
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "reference").rglob("*") if path.is_file()}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        EvaluationSettings(images=1)
