"""The embedded denoiser: a plain diffusers pipeline, honest noise, a judge that knows digits."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTPipeline, StableDiffusionXLPipeline
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import q2
from q2.denoisers import Denoiser, Samples
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.comparison import accuracies, compare, read
from q2.denoisers.digits import DigitsDiT
from q2.errors import CheckpointError, ConfigError, PluginError
from q2.graph import Graph
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig

MEGABYTES = 16.5
PACKAGED = DigitsDiT.default_checkpoint()


def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACKAGED, tmp_path / "pipeline"))


@pytest.mark.parametrize("name", ["digits-dit", "digits-sdxl", "digits-judge"])
def test_the_packaged_assets_are_small_half_precision_safetensors(name: str) -> None:
    files = [file for file in (Path(PACKAGED).parent / name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MEGABYTES * 1_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_plain_diffusers_loads_the_folder_and_draws() -> None:
    pipeline = DiTPipeline.from_pretrained(PACKAGED)
    pipeline.set_progress_bar_config(disable=True)
    made = pipeline(class_labels=pipeline.get_label_ids(["3", "5"]), num_inference_steps=2)
    assert [image.size for image in made.images] == [(32, 32), (32, 32)]


def test_the_width_leaves_a_codebook_of_16_about_one_bit_a_weight(digits: Denoiser) -> None:
    config: Any = digits.model.config
    assert config.num_attention_heads * config.attention_head_dim >= 256


def test_an_image_is_the_same_in_any_batch(digits: Denoiser) -> None:
    together = digits.generate(4, seed=3, steps=3)
    apart = digits.generate(4, seed=3, steps=3, batch=1)
    assert torch.allclose(together.images, apart.images, atol=1e-4)
    other = digits.generate(4, seed=4, steps=3)
    assert not torch.allclose(together.images, other.images, atol=1e-2)
    assert not torch.allclose(together.images[0], together.images[1], atol=1e-2)


def test_the_pipeline_runs_the_graph_and_draws_the_same(digits: Denoiser, graph: Graph) -> None:
    eager = digits.generate(3, seed=1, steps=3)
    with graph.installed():
        traced = digits.generate(3, seed=1, steps=3)
    assert torch.equal(eager.images, traced.images)


def test_the_judge_knows_real_digits() -> None:
    data = load_digits()
    images = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    images = torch.nn.functional.interpolate(images, size=(32, 32), mode="bicubic").clamp(0, 1)
    _, held_out = train_test_split(range(len(images)), test_size=0.2, stratify=data.target, random_state=0)
    samples = Samples(images[held_out], torch.tensor(data.target)[held_out])
    judge = q2.denoiser("digits-dit").judge()
    assert judge is not None
    assert (read(judge, samples) == samples.labels).double().mean() >= 0.97


def test_the_judge_reads_no_digit_in_an_image_that_is_not_finite(digits: Denoiser) -> None:
    judge = digits.judge()
    assert judge is not None
    samples = Samples(torch.full((2, 1, 32, 32), torch.nan), torch.zeros(2, dtype=torch.long))
    samples.images[1] = 0.5
    assert (read(judge, samples) >= 0).tolist() == [False, True]
    accuracy = compare(samples, samples, judge).accuracy
    assert accuracy is not None
    assert accuracy.full <= 0.5


def test_full_precision_is_recognised_and_two_bits_collapse_honestly(digits: Denoiser, graph: Graph) -> None:
    full = digits.generate(100, seed=7)
    q2.run_passes(graph, [Quantize(default=Rule(RuleConfig("uaq", 2)))])
    accuracy = compare(full, digits.generate(100, seed=7), digits.judge()).accuracy
    assert accuracy is not None
    assert accuracy.full >= 0.95
    assert accuracy.quantized <= 0.6
    assert not accuracy.within_noise


def test_images_that_read_alike_leave_a_doubt() -> None:
    """Bonett and Price's interval of paired shares, exact cases and coverage over draws of 100 images."""
    same = torch.ones(20, dtype=torch.bool)
    found = accuracies(same, same)
    assert (found.loss, found.within_noise) == (0.0, True)
    assert found.interval == pytest.approx(1.96 * (2 / 22) ** 0.5 / 22**0.5, rel=1e-4)
    assert accuracies(same[:1], same[:1]).interval <= 1
    drawn = torch.rand(2000, 100, generator=torch.Generator().manual_seed(0))
    each = [accuracies(row < 0.9, (row >= 0.1) & (row < 0.95)) for row in drawn]
    covered = sum(one.low <= 0.05 <= one.high for one in each) / len(each)
    assert covered == pytest.approx(0.95, abs=0.02)
    assert each[0].low <= each[0].loss <= each[0].high


def test_the_small_sdxl_draws_what_prompts_ask_for_and_three_uniform_bits_hurt_it() -> None:
    sdxl = q2.denoiser("digits-sdxl")
    full = sdxl.generate(60, seed=7)
    graph = q2.trace(sdxl.model, sdxl.example_inputs())
    with graph.installed():
        assert torch.equal(sdxl.generate(4, seed=7, steps=3).images, sdxl.generate(4, seed=7, steps=3).images)
        q2.run_passes(graph, [Quantize(default=Rule(RuleConfig("uaq", 3)))])
        accuracy = compare(full, sdxl.generate(60, seed=7), sdxl.judge()).accuracy
    assert accuracy is not None
    assert accuracy.full >= 0.9
    assert accuracy.quantized <= 0.88


def test_plain_diffusers_loads_the_small_sdxl_and_reads_its_prompt() -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(PACKAGED.replace("digits-dit", "digits-sdxl"))
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    prompts = ["a photo of the digit one", "a photo of the digit zero"]
    one, zero = pipeline(
        prompts, num_inference_steps=4, guidance_scale=1, generator=generators, output_type="np"
    ).images
    assert one.shape == (32, 32, 1)
    assert abs(one - zero).max() > 0.1
    words = ["a", "photo", "of", "the", "digit", "seven"]
    assert pipeline.tokenizer.tokenize("a photo of the digit seven") == [f"{word}</w>" for word in words]


def test_a_pipeline_of_the_users_own_is_loaded_from_its_folder(tmp_path: Path, digits: Denoiser) -> None:
    mine = q2.denoiser("digits-dit", str(copy(tmp_path)))
    assert mine.fingerprint == digits.fingerprint
    assert q2.denoiser("digits-dit", dtype="float16").fingerprint == digits.fingerprint


def test_a_truncated_weight_file_is_one_line(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(
        CheckpointError, match=r"transformer/diffusion_pytorch_model\.safetensors is truncated or damaged"
    ):
        _ = q2.denoiser("digits-dit", str(folder)).model


def test_a_folder_that_is_no_pipeline_of_this_kind_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no pipeline folder, model_index\.json is missing"):
        Checkpoint(str(tmp_path))
    with pytest.raises(CheckpointError, match="is a file, expected a pipeline folder"):
        Checkpoint(__file__)
    folder = copy(tmp_path)
    index = folder / "model_index.json"
    index.write_text(
        index.read_text(encoding="utf-8").replace("DiTTransformer2DModel", "UNet2DModel"), encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="transformer is UNet2DModel, expected DiTTransformer2DModel"):
        _ = q2.denoiser("digits-dit", str(folder)).model
    index.write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model_index\.json is no JSON"):
        _ = q2.denoiser("digits-dit", str(folder)).model


def test_a_hub_id_out_of_reach_is_one_line() -> None:
    with pytest.raises(CheckpointError, match="is the Hub within reach") as caught:
        _ = q2.denoiser("digits-dit", "nobody/nothing").model
    assert "\n" not in str(caught.value)


def test_an_unknown_name_dtype_or_device_is_one_line() -> None:
    with pytest.raises(PluginError, match=r"no denoiser named 'digits-di'; did you mean 'digits-dit'\?"):
        q2.denoiser("digits-di")
    with pytest.raises(ConfigError, match="dtype 'float64' is none of float32, float16, bfloat16"):
        q2.denoiser("digits-dit", dtype="float64")
    with pytest.raises(ConfigError, match="device 'gpu' cannot be used here"):
        q2.denoiser("digits-dit", device="gpu")
