"""The published families that are tables: they trace, plan at full size without weights, and load folders."""

from pathlib import Path
from typing import Any

import pytest
import torch

from q2.config import RunFile
from q2.denoisers import load
from q2.errors import CheckpointError, ConfigError
from q2.session.session import Session
from q2.session.transform import transform

WEIGHTS = {  # millions in weight layers, at full size
    "flux": 11_898,
    "flux-schnell": 11_888,
    "sd35-large": 8_054,
    "sd35-medium": 2_242,
    "sana": 1_604,
    "qwen-image": 20_425,
    "z-image": 6_154,
    "lumina2": 2_609,
    "wan21": 1_418,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_its_config_is_the_published_one_by_the_number_of_weights(name: str) -> None:
    model = load(name, weights="meta").model
    assert all(weight.is_meta for weight in model.state_dict().values())
    assert round(sum(weight.numel() for weight in model.parameters() if weight.ndim > 1) / 1e6) == WEIGHTS[name]


def test_a_laptop_plans_twelve_billion_weights(tmp_path: Path) -> None:
    done = transform(Session(RunFile.load("flux.toml", ["denoiser.weights=meta"])), tmp_path)
    assert 4 < done.recipe.avg_bits < 4.2
    assert len(done.graph.weight_layers) == 504
    assert round(sum(layer.weights for layer in done.graph.weight_layers.values()) / 1e9, 1) == 11.9


def test_every_one_has_a_run_file_of_its_name_with_its_own_checkpoint() -> None:
    for name in WEIGHTS:
        wanted = RunFile.load(f"{name}.toml").settings.denoiser
        assert wanted.name == name
        assert wanted.checkpoint == load(name, weights="meta").default_checkpoint()


def test_a_folder_has_its_own_config_and_another_class_is_refused(tmp_path: Path) -> None:
    tiny: Any = load("sana", tiny=True, device="cpu").model
    tiny.save_pretrained(tmp_path / "sana")
    alone = load("sana", str(tmp_path / "sana"), device="cpu")
    assert alone.fingerprint == load("sana", tiny=True, device="cpu").fingerprint
    on_meta: Any = load("sana", str(tmp_path / "sana"), weights="meta").model
    assert on_meta.config.num_layers == 2
    with pytest.raises(CheckpointError, match="transformer is SanaTransformer2DModel, expected FluxTransformer2DModel"):
        _ = load("flux", str(tmp_path / "sana"), device="cpu").model
    with pytest.raises(ConfigError, match="tiny has no pretrained weights; leave out tiny, or checkpoint"):
        load("sana", str(tmp_path / "sana"), tiny=True)


def test_without_its_weights_it_says_what_else_can_be_done() -> None:
    with pytest.raises(CheckpointError, match='black-forest-labs/FLUX.1-dev.* weights = "meta" traces, counts'):
        _ = load("flux").model


def test_wans_inputs_are_videos() -> None:
    inputs = load("wan21", tiny=True, device="cpu").example_inputs(2)
    assert isinstance(inputs["hidden_states"], torch.Tensor)
    assert inputs["hidden_states"].shape == (2, 4, 2, 8, 8)
