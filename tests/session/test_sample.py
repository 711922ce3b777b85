"""`q2 sample`: images that people keep, the same in any batch, with their settings beside them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import q2
from q2.config import RunFile
from q2.denoisers import Ask
from q2.errors import ConfigError
from q2.passes import Step
from q2.quant import Recipe
from q2.session.sample import Order, read_prompts, sample
from q2.session.session import Session
from q2.session.transform import transform


def drawn(folder: Path, order: Order, config: str = "digits-dit.toml") -> list[Step]:
    steps: list[Step] = []
    files = sample(Session(RunFile.load(config), show=steps.append), order, folder)
    assert all(file.is_file() for file in files)
    assert sorted(folder.iterdir()) == sorted(files)
    return steps


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("L"), dtype=int)


def all_pixels(folder: Path) -> list[np.ndarray]:
    return [pixels(file) for file in sorted(folder.glob("0*.png"))]


def test_image_i_is_the_same_in_any_batch_and_says_how_it_was_made(tmp_path: Path) -> None:
    ask = Ask(classes=(3, 7))
    drawn(tmp_path / "one", Order(ask, n=3, seed=5, steps=4, batch=1))
    drawn(tmp_path / "all", Order(ask, n=3, seed=5, steps=4, batch=3))
    for one, other in zip(all_pixels(tmp_path / "one"), all_pixels(tmp_path / "all"), strict=True):
        assert np.abs(one - other).max() <= 1
    facts = json.loads((tmp_path / "one" / "0001.json").read_text())
    assert (facts["label"], facts["steps"], facts["order"]["seed"]) == (7, 4, 5)
    assert facts["passes"]["quantize"]["default"] == "kmeans-c-4"
    grid = pixels(tmp_path / "all" / "grid.png")
    assert grid.shape[0] == 16 + 36 + 4
    assert grid.shape[1] > 3 * 36 + 4 + 40  # "quantized" is on the left


def test_compare_draws_the_same_noise_at_full_precision(tmp_path: Path) -> None:
    steps: list[Step] = []
    session = Session(RunFile.load("digits-dit.toml"), show=steps.append).with_passes([])
    sample(session, Order(Ask(), n=2, steps=3, compare=True), tmp_path / "none")
    assert steps[-1].title == "compare"
    assert [row[1:] for row in steps[-1].tables[0].rows] == [(100.0, 1.0, 100.0)] * 2
    steps = drawn(tmp_path / "four", Order(Ask(), n=2, steps=3, compare=True))
    for _, peak, structure, latent in steps[-1].tables[0].rows:
        assert 15 < float(peak) < 60
        assert 0.5 < float(structure) < 1
        assert 5 < float(latent) < 40
    facts = json.loads((tmp_path / "four" / "0000.json").read_text())
    assert facts["compared"]["PSNR dB"] == steps[-1].tables[0].rows[0][1]
    grid = pixels(tmp_path / "four" / "grid.png")
    assert grid.shape[0] == 16 + 2 * 36 + 4
    assert grid.shape[1] > 2 * 36 + 4 + 60  # "full precision" is on the left


def test_a_prompt_decides_what_is_drawn(tmp_path: Path) -> None:
    prompts = ("a photo of the digit eight", "a photo of the digit one")
    drawn(tmp_path, Order(Ask(prompts), n=2, seed=3), "digits-sdxl.toml")
    judge = q2.denoiser("digits-sdxl").judge()
    assert judge is not None
    images = torch.tensor(np.stack(all_pixels(tmp_path)))[:, None] / 255
    assert judge(images).argmax(1).tolist() == [8, 1]


def test_latents_are_what_the_autoencoder_decoded() -> None:
    denoiser = q2.denoiser("digits-dit")
    samples = denoiser.generate(3, seed=1, steps=2, batch=2)
    assert samples.latents.shape[:2] == (3, 4)
    vae = denoiser.pipeline().vae
    assert "decode" not in vars(vae)
    with torch.no_grad():
        again = (vae.decode(samples.latents).sample / 2 + 0.5).clamp(0, 1)
    assert torch.allclose(again, samples.images, atol=1e-5)


@pytest.mark.parametrize(
    ("ask", "config", "message"),
    [
        (Ask(classes=(10,)), "digits-dit.toml", "class 10 is outside 0 to 9"),
        (Ask(classes=(-1,)), "digits-sdxl.toml", "class -1 is outside 0 to 9"),
        (Ask(("a fox",)), "digits-dit.toml", "digits-dit draws classes, 0 to 9, and takes no prompt"),
        (Ask(size=64), "digits-dit.toml", "digits-dit draws images of 32 pixels a side, not 64"),
        (Ask(size=33), "digits-sdxl.toml", "size 33 is no multiple of 4, which a latent stands for"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_writes_nothing(
    ask: Ask, config: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        sample(Session(RunFile.load(config)), Order(ask, n=1), tmp_path / "out")
    assert str(caught.value) == message
    assert not (tmp_path / "out").exists()


def test_prompts_and_classes_need_somebody_who_reads_them() -> None:
    tiny = q2.denoiser("pixart-alpha", tiny=True)
    with pytest.raises(ConfigError, match="pixart-alpha has no text encoder here and takes no prompt"):
        tiny.check(Ask(("a fox",)))
    with pytest.raises(ConfigError, match="pixart-alpha draws what a prompt says, and has no classes"):
        tiny.check(Ask(classes=(1,)))


def test_prompt_files_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    with pytest.raises(ConfigError, match=r"--prompts .*prompts.txt: cannot be read: "):
        read_prompts(file)
    file.write_text("\n  \n")
    with pytest.raises(ConfigError, match="holds no prompt, expected one a line"):
        read_prompts(file)
    file.write_text("a fox\n\n  a hen \n")
    assert read_prompts(file) == ("a fox", "a hen")


def test_a_recipe_for_layers_that_are_not_there_is_refused(tmp_path: Path) -> None:
    Recipe.of({"proj_out_3": "uaq-4"}, "digits-dit", "", 4.0).save(tmp_path / "r.toml")
    session = Session(RunFile.load("digits-dit.toml").with_recipe(tmp_path / "r.toml"))
    with pytest.raises(ConfigError, match="no such weight layer in 'digits-dit'; did you mean 'proj_out_2'"):
        sample(session, Order(Ask(), n=1), tmp_path / "out")


def test_a_saved_folder_keeps_how_activations_are_quantized(tmp_path: Path) -> None:
    sets = ["samples.images=0", "passes.quantize-activations.bits=6", "passes.quantize-activations.attention=false"]
    run = RunFile.load("digits-dit.toml", sets)
    transform(Session(run), tmp_path / "run", packed=tmp_path / "saved")
    order = Order(Ask(), n=2, steps=3)
    sample(Session(run), order, tmp_path / "simulated")
    saved = Session(RunFile.load("digits-dit.toml", [f"denoiser.checkpoint={tmp_path / 'saved'}"])).of_saved()
    sample(saved, order, tmp_path / "six")
    sample(saved, replace(order, act_bits=16), tmp_path / "full")
    six, full, simulated = (all_pixels(tmp_path / name) for name in ("six", "full", "simulated"))
    assert np.array_equal(six, simulated)
    assert not np.array_equal(six, full)
    facts = json.loads((tmp_path / "six" / "0000.json").read_text())
    assert facts["passes"]["quantize-activations"]["bits"] == 6


def test_memory_switches_pass_through(tmp_path: Path) -> None:
    drawn(tmp_path / "plain", Order(Ask(), n=2, steps=2))
    drawn(tmp_path / "sliced", Order(Ask(), n=2, steps=2, vae_slicing=True, vae_tiling=True))
    for one, other in zip(all_pixels(tmp_path / "plain"), all_pixels(tmp_path / "sliced"), strict=True):
        assert np.abs(one - other).max() <= 1
    with pytest.raises(ConfigError, match="--offload: the denoiser runs on the CPU already"):
        sample(Session(RunFile.load("digits-dit.toml")), Order(Ask(), n=1, offload="model"), tmp_path / "out")
