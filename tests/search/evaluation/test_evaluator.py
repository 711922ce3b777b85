"""The evaluator measures what the recipe does to the denoiser, against what full precision gave."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import q2
from q2.config import RunFile
from q2.denoisers import Samples
from q2.denoisers.recorded import outputs_of
from q2.errors import TrialError
from q2.search.evaluation.evaluator import Evaluator, Job
from q2.search.evaluation.reference import Reference
from q2.search.metrics.base import Array, Chunk, ImageMetric, metrics_at
from q2.search.metrics.costs import AvgBits
from q2.search.metrics.intervals import Estimate, Labels
from q2.search.metrics.judged import JudgeAccuracy
from q2.search.metrics.outputs import Sqnr
from q2.session.bank import bank_folder, find_bank
from q2.session.evaluation import Loader, load, make_reference, places_of
from q2.session.session import Session
from q2.settings import EvaluationSettings

NAMES = ["SQNR", "latency", "latent-SQNR", "PSNR", "SSIM", "judge-accuracy", "judge-fid", "judge-fid-fp"]
SETS = [
    "search.strategy=random",
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


def given(worker: Evaluator) -> dict[str, Any]:
    """Return what an evaluator was made of."""
    return {name: value for name, value in vars(worker).items() if name != "kept"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with the bank and full precision's side, as a search makes them."""
    folder = tmp_path_factory.mktemp("run")
    loaded = load(Session(RunFile.load("digits-dit.toml", SETS)))
    find_bank(loaded.session, bank_folder(loaded.session, folder))
    assert make_reference(loaded, folder, ["few-step", "full"]) > 0
    return folder


@pytest.fixture(scope="module")
def worker(folder: Path) -> Evaluator:
    run = RunFile.load("digits-dit.toml", SETS)
    made = Loader(run)()(places_of(Session(run), folder))
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
        worker.switch,
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
    reference.make(denoiser, graph, ["forward"], [Sqnr(denoiser, settings)])
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


class Broken(ImageMetric):
    """Returns whatever a test says, of rows and of all."""

    name = "broken"
    better = "higher"
    owner = "mine.py"

    def __init__(self, rows: Any, value: Any) -> None:
        self.returned, self.value_of = rows, value

    def rows(self, chunk: Chunk) -> Array:
        if isinstance(self.returned, Exception):
            raise self.returned
        return self.returned(len(chunk.made.images))  # type: ignore[no-any-return]

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate | float:
        return self.value_of  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("rows", "value", "reason"),
    [
        (np.ones, math.nan, "value is nan, expected a finite number"),
        (np.ones, -math.inf, "value is -inf, expected a finite number"),
        (np.ones, Estimate(1.0, math.nan, 2.0), "low is nan, expected a finite number"),
        (np.ones, "high", "value returned str, expected an Estimate or a number"),
        (np.ones, None, "value returned NoneType, expected an Estimate or a number"),
        (lambda count: np.ones(1), 1.0, "rows returned the shape (1,) for 4 images, expected a row for each"),
        (lambda count: np.full(count, np.nan), 1.0, "rows of 4 of 4 images are not finite (first: image 0)"),
        (RuntimeError("no\nluck"), 1.0, "RuntimeError: no luck"),
    ],
)
def test_a_metric_that_gives_nonsense_fails_the_trial(worker: Evaluator, rows: Any, value: Any, reason: str) -> None:
    broken = Evaluator(**(given(worker) | {"metrics": [*worker.metrics, Broken(rows, value)]}))
    trial = broken(Job(recipe(worker, "uaq-3"), "full", number=1)).trial
    assert (trial.state, trial.number, trial.metrics) == ("failed", 1, {})
    assert trial.error == f"metric 'broken' of mine.py: {reason}"


def test_an_infinite_error_in_the_bank_fails_the_trial(worker: Evaluator) -> None:
    tables = {**worker.costs.tables, "quantized_error": np.full_like(worker.costs.tables["quantized_error"], np.inf)}
    broken = Evaluator(**(given(worker) | {"costs": dataclasses.replace(worker.costs, tables=tables)}))
    result = broken(Job(recipe(worker, "uaq-3"), "weights"))
    assert result.trial.error == "metric 'quantized_error': value is inf, expected a finite number"
    assert result.not_finite


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_overflows_fails_the_trial_before_pixels_are_rounded(worker: Evaluator, bad: float) -> None:
    assert worker(Job(recipe(worker, "uaq-3"), "forward")).trial.state == "complete"  # the layer is a simulated one
    layer = worker.denoiser.model.get_submodule("proj_out_2")
    handle = layer.register_forward_hook(lambda module, args, output: output.fill_(bad))
    try:
        outputs = worker(Job(recipe(worker, "uaq-3"), "full"))
        images = Evaluator(**(given(worker) | {"metrics": [m for m in worker.metrics if m.cost == "images"]}))
        drawn = images(Job(recipe(worker, "uaq-3"), "full"))
    finally:
        handle.remove()
    assert outputs.trial.error == "outputs of 4 of 4 inputs are not finite (first: input 0)"
    assert drawn.trial.error == "latents of 4 of 4 images are not finite (first: image 0)"
    assert drawn.not_finite
    assert drawn.spent["sample"] > 0
    assert worker(Job(recipe(worker, "uaq-3"), "full")).trial.state == "complete"


def test_an_infinite_pixel_is_seen_before_it_is_clamped(worker: Evaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(count: int, first: int = 0, **options: object) -> Samples:
        images = torch.rand(count, 1, 32, 32)
        images[-1, 0, 3, 3] = math.inf
        return Samples(images, torch.zeros(count, dtype=torch.long), torch.rand(count, 4, 8, 8))

    monkeypatch.setattr(worker.denoiser, "generate", generate)
    trial = worker(Job(recipe(worker, "uaq-3"), "few-step")).trial
    assert trial.error == "pixels of 1 of 3 images are not finite (first: image 2)"


def test_full_precision_that_overflows_is_an_error_of_the_run(tmp_path: Path) -> None:
    loaded = load(Session(RunFile.load("digits-dit.toml", SETS)))
    loaded.denoiser.model.get_parameter("proj_out_2.bias")[0] = math.inf
    with pytest.raises(
        TrialError, match=r"^full precision itself: outputs of \d+ of \d+ inputs are not finite \(first"
    ):
        make_reference(loaded, tmp_path / "outputs", ["full"])
    images = dataclasses.replace(loaded, metrics=[each for each in loaded.metrics if each.cost == "images"])
    with pytest.raises(TrialError, match=r"^full precision itself: latents of 4 of 4 images are not finite \(first"):
        make_reference(images, tmp_path / "images", ["full"])
    assert not list(tmp_path.glob("*/reference/**/*.safetensors"))


def test_full_precision_against_itself_is_perfect(folder: Path) -> None:
    settings = Session(RunFile.load("digits-dit.toml", SETS)).settings.search.evaluation
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
    loaded = load(Session(RunFile.load("digits-dit.toml", SETS)))
    before = {path: path.stat().st_mtime_ns for path in (folder / "reference").rglob("*") if path.is_file()}
    assert before
    make_reference(loaded, folder, ["few-step", "full"])
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "reference").rglob("*") if path.is_file()}


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="greater than or equal to 2"):
        EvaluationSettings(images=1)
