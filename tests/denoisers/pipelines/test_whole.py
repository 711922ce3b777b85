"""Tiny pipelines go the whole way; `benchmarks.pipelines` takes all of them and writes their table."""

from pathlib import Path

import pytest
import torch

import q2
from q2.config import RunFile
from q2.denoisers import Ask
from q2.errors import CheckpointError, ConfigError
from q2.session.calibrate import check_rows
from q2.session.checks import check_search
from q2.session.sample import Order, draw, sample
from q2.session.session import Session
from q2.session.transform import transform
from tests.denoisers.pipelines.all import PIPELINES
from tests.denoisers.pipelines.whole import STAGES, session_of, whole

WHOLE = ("StableDiffusion3Pipeline", "WanPipeline", "KandinskyV22CombinedPipeline")
DRAWN = {
    "StableDiffusionXLPipeline": "compare",
    "FluxPipeline": "forward",
    "SanaPipeline": "batch",
    "QwenImagePipeline": "batch",
    "ZImagePipeline": "few-step",
    "StableDiffusionInpaintPipeline": "batch",
    "ConsistencyModelPipeline": "calibrate",
    "DDPMPipeline": "batch",
    "CogView4Pipeline": "batch",
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_whole_way(name: str, tmp_path: Path) -> None:
    found = whole(name, PIPELINES[name], tmp_path)
    assert found.failure == ""
    assert tuple(found.done) == STAGES


@pytest.mark.parametrize("name", DRAWN)
def test_quantized_saved_loaded_and_drawn_the_same(name: str, tmp_path: Path) -> None:
    found = whole(name, PIPELINES[name], tmp_path, (DRAWN[name],))
    assert found.failure == ""
    assert found.done == ["samples", "save", "load", DRAWN[name]]


def test_frames_of_videos_are_images_and_a_video_is_one_of_the_compared(tmp_path: Path) -> None:
    tiny = PIPELINES["WanPipeline"]
    session = session_of(tiny, tiny.save(tmp_path / "pipeline"))
    order = Order(Ask(), n=2, seed=3, steps=2, compare=True)
    made, full, _ = draw(session, order)
    assert full is not None
    assert (made.images.shape, made.latents.shape, made.frames) == ((10, 3, 16, 16), (2, 4, 2, 2, 2), 5)
    assert made.image_labels.tolist() == [0] * 5 + [1] * 5
    files = sample(session, order, tmp_path / "out")
    assert [file.name for file in files[:6]] == [*(f"0000-{i:03}.png" for i in range(5)), "0000.json"]
    with pytest.raises(ConfigError, match="WanPipeline makes videos, and 64 is the side of an image"):
        sample(session, Order(Ask(size=64)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


PLUGIN = '''
import torch
from q2.denoisers.other import Other
from q2.plugins import hookimpl

class Decoder(Other):
    """Draws from image embeddings, one for every image."""
    name = "kandinsky-decoder"
    def conditions(self, images, ask):
        rows = [torch.randn(32, generator=torch.Generator().manual_seed(i)) for i in images]
        embeds = torch.stack(rows).to(self.device, self.dtype)
        return {**super().conditions(images, ask), "image_embeds": embeds, "negative_image_embeds": 0 * embeds}

@hookimpl
def q2_denoisers():
    return {"kandinsky-decoder": Decoder}
'''


def test_an_odd_input_is_named_and_ten_lines_of_a_plugin_give_it(tmp_path: Path) -> None:
    tiny = PIPELINES["KandinskyV22Pipeline"]
    folder = tiny.save(tmp_path / "pipeline")
    with pytest.raises(ConfigError) as caught:
        q2.denoiser(checkpoint=str(folder), device="cpu").generate(1, steps=1)
    assert str(caught.value) == (
        "KandinskyV22Pipeline needs image_embeds and negative_image_embeds, which q2 cannot make; "
        "a plugin's Denoiser.conditions gives it"
    )
    (tmp_path / "decoder.py").write_text(PLUGIN)
    more = {"denoiser.name": "kandinsky-decoder", "plugins.modules": [str(tmp_path / "decoder.py")]}
    session = session_of(tiny, folder, **more)
    made, full, _ = draw(session, Order(Ask(), n=2, steps=2, compare=True))
    assert full is not None
    assert made.images.shape == (2, 3, 16, 16)
    assert not torch.equal(made.images[0], made.images[1])
    assert not torch.equal(made.images, full.images)


def settings(folder: Path, **more: object) -> Session:
    return Session(RunFile("run.toml", folder, {}).overridden({"denoiser.checkpoint": str(folder), **more}))


def test_bad_input_is_one_line_before_weights_are_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = PIPELINES["DDIMPipeline"].save(tmp_path / "pipeline")
    monkeypatch.setattr("q2.session.session.Session.load_pipeline", lambda _: pytest.fail("it was loaded"))
    for more, ask, message in (
        ({}, Ask(("a fox",)), "DDIMPipeline takes no prompt"),
        ({}, Ask(classes=(1,)), "DDIMPipeline has no classes"),
        ({"denoiser.arguments.etta": 0.5}, Ask(), "arguments.etta: DDIMPipeline takes no etta"),
    ):
        with pytest.raises(ConfigError, match=message):
            draw(settings(folder, **more), Order(ask, n=1))
    wrong = settings(folder, **{"denoiser.arguments.etta": 0.5, "samples.images": 1})
    for start in (lambda: transform(wrong, None), lambda: check_search(wrong, {}), lambda: check_rows(wrong, folder)):
        with pytest.raises(
            ConfigError, match="^run.toml: arguments.etta: DDIMPipeline takes no etta; did you mean 'eta'"
        ):
            start()


def test_a_component_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    folder = PIPELINES["KandinskyV22CombinedPipeline"].save(tmp_path / "pipeline")
    with pytest.raises(
        CheckpointError, match=r"has no denoiser \(prior_priorr is missing\); did you mean 'prior_prior'"
    ):
        _ = q2.denoiser(checkpoint=str(folder), component="prior_priorr").model
    assert q2.denoiser(checkpoint=str(folder), component="prior_prior").label == "PriorTransformer"
    assert q2.denoiser(checkpoint=str(folder)).label == "UNet2DConditionModel"
    with pytest.raises(ConfigError, match="component 'vae': the denoiser 'sdxl' is its pipeline's unet"):
        q2.denoiser("sdxl", component="vae", weights="meta")


def test_a_pipeline_without_its_text_encoder_says_so(tmp_path: Path) -> None:
    tiny = PIPELINES["StableDiffusionPipeline"]
    pipeline = tiny.build()
    pipeline.text_encoder = None
    pipeline.save_pretrained(tmp_path / "pipeline")
    with pytest.raises(ConfigError, match="StableDiffusionPipeline has no text encoder here and takes no prompt"):
        q2.denoiser(checkpoint=str(tmp_path / "pipeline"), device="cpu").generate(1, steps=1)


def test_the_pipeline_has_the_one_denoiser_that_is_quantized(tmp_path: Path) -> None:
    """WanPipeline's transformer is optional, since there may be a second one in its place."""
    denoiser = q2.denoiser(checkpoint=str(PIPELINES["WanPipeline"].save(tmp_path / "pipeline")), device="cpu")
    assert denoiser.pipeline().transformer is denoiser.model
