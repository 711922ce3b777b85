"""The families: real pipelines run the graph and draw the same, and folders of every kind load."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import q2
from q2.denoisers import Denoiser, load
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.dit import DiT
from q2.errors import CheckpointError, ConfigError
from q2.graph.fingerprint import fingerprint


def saved(folder: Path, name: str, **options: Any) -> str:
    load(name, tiny=True, device="cpu").pipeline().save_pretrained(folder, **options)
    return str(folder)


def test_a_local_folder_is_loaded_whole_in_half_precision_or_in_shards(tmp_path: Path) -> None:
    expected = fingerprint(load("dit", tiny=True, device="cpu").model)
    for number, options in enumerate(({}, {"variant": "fp16"}, {"max_shard_size": "50KB"})):
        folder = saved(tmp_path / str(number), "dit", **options)
        denoiser = load("dit", folder, device="cpu")
        assert denoiser.fingerprint == expected
        assert denoiser.pipeline().transformer is denoiser.model
    assert len(list((tmp_path / "2" / "transformer").glob("*.safetensors"))) > 1


def test_a_checkpoint_alone_names_its_class(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mine", "sdxl")
    denoiser = load(checkpoint=folder, device="cpu")
    assert denoiser.label == "UNet2DConditionModel"
    assert denoiser.fingerprint == load("sdxl", tiny=True, device="cpu").fingerprint
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    graph.verify()
    without = load(checkpoint=folder, weights="meta")
    assert len(q2.trace(without.model, without.example_inputs()).weight_layers) == len(graph.weight_layers)
    with pytest.raises(ConfigError, match="StableDiffusionXLPipeline has no text encoder here and takes no prompt"):
        denoiser.generate(1)


def test_any_class_of_diffusers_with_a_config(tmp_path: Path) -> None:
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 1,
        "in_channels": 4,
        "out_channels": 4,
        "sample_size": 8,
        "patch_size": 1,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8,
        "cross_attention_dim": 16,
        "caption_channels": 12,
    }
    denoiser = load(model="diffusers:SanaTransformer2DModel", config=config, device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    graph.verify(dict(denoiser.example_inputs(batch=3)))
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "x"}), encoding="utf-8")
    again = load(model="diffusers:SanaTransformer2DModel", config=str(tmp_path), weights="meta")
    assert list(q2.trace(again.model, again.example_inputs()).weight_layers) == list(graph.weight_layers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "torch.nn:Linear"}, r"model 'torch.nn:Linear' is no diffusers model \(ModelMixin\)"),
        ({"model": "diffusers:AutoencoderKL"}, "model 'diffusers:AutoencoderKL' is no denoiser: its forward takes no"),
        ({"model": "diffusers:Nothing"}, "model 'diffusers:Nothing': expected package.module:Class"),
        ({"model": "nowhere.at.all:X"}, "model 'nowhere.at.all:X': expected package.module:Class"),
        (
            {"model": "diffusers:DiTTransformer2DModel", "config": {"depth": 3}},
            "config.depth: DiTTransformer2DModel takes no such",
        ),
        ({"model": "diffusers:DiTTransformer2DModel", "config": "/nowhere"}, "config '/nowhere': cannot be read as a"),
        ({"name": "dit", "model": "diffusers:DiTTransformer2DModel"}, "name 'dit' and model .* both name a denoiser"),
        ({"name": "dit", "config": {"num_layers": 1}}, "config needs model"),
        ({"name": "dit", "weights": "trained"}, "weights 'trained' is none of pretrained, random, meta"),
        ({"model": "diffusers:DiTTransformer2DModel", "tiny": True}, "tiny is for the families"),
    ],
)
def test_what_does_not_go_together_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        _ = load(**options, device="cpu").model
    assert "\n" not in str(caught.value)


def test_a_pipeline_without_a_denoiser_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "Upscaler", "vae": ["diffusers", "X"]}')
    with pytest.raises(CheckpointError, match="Upscaler has no denoiser .transformer or unet or prior or decoder is"):
        _ = load(checkpoint=str(tmp_path)).model


def test_a_checkpoint_out_of_reach_says_what_else_can_be_done() -> None:
    with pytest.raises(CheckpointError, match=r'takes a local pipeline folder too, and weights = "meta" traces') as e:
        _ = load("sdxl").model
    assert "\n" not in str(e.value)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = saved(tmp_path, "dit", safe_serialization=False)
    with pytest.raises(CheckpointError, match=r"transformer holds no \.safetensors file"):
        _ = load("dit", folder).model


def test_inputs_that_do_not_fit_name_the_module() -> None:
    denoiser: Denoiser = load("dit", tiny=True, device="cpu")
    inputs = {**denoiser.example_inputs(), "hidden_states": torch.zeros(1, 3, 8, 8)}
    with pytest.raises(q2.errors.TraceError, match=r"trace DiTTransformer2DModel at 'pos_embed.proj'") as caught:
        q2.trace(denoiser.model, inputs)
    assert "\n" not in str(caught.value)


class Own(DiT):
    """A denoiser of a plugin, without weights of its own."""

    name: ClassVar[str] = "own"

    @classmethod
    def default_checkpoint(cls) -> str:
        return ""


def test_a_denoiser_without_a_checkpoint_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("dit", tiny=True, device="cpu").pipeline().save_pretrained(tmp_path)
    monkeypatch.chdir(tmp_path)  # a pipeline folder: an empty path would name it
    line = """the denoiser 'own' has no checkpoint of its own; say checkpoint, or weights = "random" or "meta"$"""
    with pytest.raises(ConfigError, match=line):
        Own()
    assert Own(weights="meta").model.config.num_layers == 28  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="^no checkpoint is named, expected a pipeline folder or a Hub id"):
        Checkpoint("")
