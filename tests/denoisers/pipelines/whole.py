"""The whole way of a pipeline folder: quantized, saved, loaded, drawn, compared, searched, calibrated, exported."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from q2.config import RunFile
from q2.denoisers import Ask, load
from q2.session.calibrate import calibrate
from q2.session.export import export
from q2.session.sample import Order, draw
from q2.session.saved import of_saved
from q2.session.search import search
from q2.session.session import Session
from q2.session.transform import transform
from tests.denoisers.pipelines.tiny import Tiny

__all__ = ["STAGES", "Whole", "session_of", "whole"]

STAGES = ("samples", "save", "load", "batch", "compare", "forward", "few-step", "calibrate", "export")
OPTIONS = ["kmeans-c-4", "uaq-3"]
NEAR = 1e-4  # of pixels in [0, 1]: another batch adds in another order


@dataclass
class Whole:
    """What a pipeline did: the stages that went well, and the first that did not, with why."""

    name: str
    what: str
    layers: int = 0
    alone: bool = False
    seconds: float = 0.0
    done: list[str] = field(default_factory=list)
    failure: str = ""


def session_of(tiny: Tiny, pipeline: Path, **more: object) -> Session:
    """Return a session that quantizes a tiny pipeline's folder."""
    settings: dict[str, object] = {
        "seed": 3,
        "denoiser.checkpoint": str(pipeline),
        "denoiser.component": tiny.component,
        "denoiser.arguments": dict(tiny.arguments),
        "denoiser.device": "cpu",
        "samples.images": 2,
        "passes.quantize.default": "kmeans-c-4",
        "search.trials": 4,
        "search.options": OPTIONS,
        "bank.options": OPTIONS,
        "search.target": "latent-SQNR - 4*avg_bits",
        "search.evaluation.metrics": ["PSNR"],
        "search.evaluation.fidelity": "few-step",
        "search.evaluation.few_images": 2,
        "search.evaluation.few_steps": 2,
        "search.evaluation.inputs": 4,
        "search.engine.workers": 1,
        "calibration.images": 2,
        "calibration.steps": 2,
        "calibration.rows": 32,
    }
    run = RunFile("pipelines.toml", pipeline.parent, {}).overridden({**settings, **more})
    return Session(run)


def whole(name: str, tiny: Tiny, folder: Path, stages: tuple[str, ...] = STAGES) -> Whole:
    """Go the whole way in `folder`, or as far as it goes."""
    found, start = Whole(name, tiny.what), time.perf_counter()
    try:
        for stage in _stages(found, tiny, folder, stages):
            found.done.append(stage)
    except Exception as error:  # noqa: BLE001 (a table says how far each goes)
        found.failure = f"{type(error).__name__}: {error}".split("\n")[0]
    found.seconds = time.perf_counter() - start
    return found


def _stages(found: Whole, tiny: Tiny, folder: Path, stages: tuple[str, ...]) -> Iterator[str]:
    pipeline, steps = tiny.save(folder / "pipeline"), 2
    short = {"denoiser.arguments.num_inference_steps": steps}
    session = session_of(tiny, pipeline, **short)
    outcome = transform(session, folder / "run", packed=folder / "saved")
    assert outcome.comparison is not None
    found.layers, found.alone = len(outcome.graph.weight_layers), outcome.denoiser.draws_alone
    made = outcome.comparison.quantized
    assert not torch.equal(made.images, outcome.comparison.full.images)
    yield "samples"
    yield "save"
    order = Order(Ask(), n=2, seed=3, batch=2)
    saved = of_saved(session, str(folder / "saved"))
    drawn, _, _ = draw(saved, order)
    assert torch.equal(drawn.images, made.images), "the loaded folder draws others"
    assert torch.equal(drawn.latents, made.latents)
    yield "load"
    if "batch" in stages:
        denoiser = load(**session.settings.denoiser.model_dump())
        together = denoiser.generate(4, seed=1, steps=steps, batch=4)
        one = denoiser.generate(1, first=3, seed=1, steps=steps)
        off = float((together.images[3 * together.frames :] - one.images).abs().max())
        assert off < NEAR, f"image 3 of a batch of 4 is off by {off:.2g}"
        assert float((together.images[: together.frames] - one.images).abs().max()) > NEAR
        yield "batch"
    if "compare" in stages:
        again, full, _ = draw(saved, Order(Ask(), n=2, seed=3, batch=2, compare=True))
        assert full is not None
        assert torch.equal(full.images, outcome.comparison.full.images), "the original draws others"
        assert torch.equal(again.images, made.images)
        yield "compare"
    for fidelity in ("forward", "few-step"):
        if fidelity in stages:
            target = {"search.target": "SQNR - 4*avg_bits", "search.evaluation.metrics": []}
            more = {**short, "search.evaluation.fidelity": fidelity, **(target if fidelity == "forward" else {})}
            done = search(session_of(tiny, pipeline, **more), folder / fidelity)
            states = [trial.state for trial in done.trials]
            assert states.count("complete") >= 4, done.trials[0].error
            yield fidelity
    if "calibrate" in stages:
        report = calibrate(session, folder / "rows")
        assert report.drawn == 2
        yield "calibrate"
    if "export" in stages:
        export(saved, "dequantized", folder / "plain", saved=folder / "saved")
        plain = load(checkpoint=str(folder / "plain"), component=tiny.component, dtype="float16", device="cpu")
        assert plain.model is not None
        yield "export"
