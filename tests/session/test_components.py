"""Other parts of a pipeline: fitted, sized, saved and loaded with it; images are those of the simulated one."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from q2.config import RunFile
from q2.denoisers import Ask, load
from q2.errors import ConfigError
from q2.quant.packed.layers import Packed
from q2.session.export import export
from q2.session.sample import Order, pictures
from q2.session.session import Session
from q2.session.transform import transform

RULES = '{by="regex","mlp"="uaq-4",default="kmeans-a-3"}'


def session_of(*overrides: str) -> Session:
    plain = ["samples.images=0", "passes.stats.samples=0", 'passes.quantize={default="uaq-4"}']
    return Session(RunFile.load("digits-sdxl.toml", [*plain, *overrides]))


def test_a_quantized_text_encoder_is_as_large_as_predicted_and_draws_the_same(tmp_path: Path) -> None:
    asked = ['components.text_encoder_2.quantize="kmeans-c-4"', f"components.text_encoder.quantize={RULES}"]
    done = transform(session_of(*asked), tmp_path / "run", packed=tmp_path / "saved")
    images = done.denoiser.generate(2, seed=1, steps=2).images
    plain = load("digits-sdxl", device="cpu").pipeline().text_encoder_2
    ids = torch.arange(12)[None]
    assert not torch.equal(done.pipeline.text_encoder_2(ids).text_embeds, plain(ids).text_embeds)
    report = json.loads((tmp_path / "run/report.json").read_text(encoding="utf-8"))
    total = report["passes"]["size"]["bytes"]
    for name in ("text_encoder", "text_encoder_2"):
        predicted = report["components"][name]["bytes"]
        with safe_open(tmp_path / "saved" / name / "model.safetensors", "pt") as file:
            kept = [key for key in file.keys() if key.rpartition("_")[2].isdigit()]  # noqa: SIM118
            assert sum(file.get_tensor(key).nbytes for key in kept) == predicted
        total += predicted
    assert report["total"]["bytes"] == total
    options = report["components"]["text_encoder"]["layers"]
    assert set(options.values()) == {"uaq-4", "kmeans-a-3"}
    back: Any = load("digits-sdxl", str(tmp_path / "saved"), device="cpu")
    assert sum(isinstance(module, Packed) for module in back.pipeline().text_encoder_2.modules()) == 13
    assert torch.equal(back.generate(2, seed=1, steps=2).images, images)
    half = load("digits-sdxl", str(tmp_path / "saved"), device="cpu", dtype="float16").pipeline().text_encoder_2
    assert torch.allclose(half(ids).text_embeds.float(), back.pipeline().text_encoder_2(ids).text_embeds, atol=0.05)
    done.pipeline.text_encoder_2.save_pretrained(tmp_path / "plain")  # the pipeline is what it was
    assert "quantization_config" not in json.loads((tmp_path / "plain/config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            'components.text_encoder_3.quantize="uaq-4"',
            "components.text_encoder_3: the pipeline has no such part; did",
        ),
        ('components.vae.quantize="uaq-4"', "components.vae: is an autoencoder, which is not quantized"),
        ('components.unet.quantize="uaq-4"', r"components.unet: is the denoiser, which \[passes.quantize\] is for"),
        ('components.text_encoder.quantize="uaqq-4"', "no quantizer named 'uaqq'; did you mean 'uaq'"),
        ('components.text_encoder.quantize={by="recipe",recipe="r.toml"}', "a recipe is the denoiser's; expected type"),
        ('components.text_encoder.quantise="uaq-4"', "components.text_encoder.quantise: unknown key; did you mean"),
    ],
)
def test_what_is_no_part_is_said_before_anything_is_loaded(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        session = session_of(override)
        transform(session, None)
    assert "\n" not in str(error.value)


def test_samples_and_exports_have_the_quantized_parts(tmp_path: Path) -> None:
    sets = ['components.text_encoder_2.quantize="kmeans-c-2"']
    order = Order(Ask(), n=2, steps=2, seed=1)
    with_part, without = (pictures(session_of(*each), order).images for each in (sets, []))
    done = transform(session_of(*sets), None, packed=tmp_path / "saved")
    assert torch.equal(with_part, done.denoiser.generate(2, seed=1, steps=2).images)
    assert not torch.equal(with_part, without)
    export(session_of(*sets), "dequantized", tmp_path / "made")
    export(session_of(), "dequantized", tmp_path / "from-saved", tmp_path / "saved")
    ids = torch.arange(12)[None]
    for name in ("made", "from-saved"):
        plain: Any = load("digits-sdxl", str(tmp_path / name), device="cpu").pipeline().text_encoder_2
        assert not any(isinstance(module, Packed) for module in plain.modules())
        assert torch.allclose(plain(ids).text_embeds, done.pipeline.text_encoder_2(ids).text_embeds, atol=1e-2)
