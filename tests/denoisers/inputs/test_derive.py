"""Example inputs derived from signature and config: they run, are the same every time, and follow the model."""

from typing import Any

import pytest
import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import nn

from q2.denoisers.inputs.derive import example_inputs
from q2.errors import TraceError
from q2.graph import trace
from tests.graph import zoo
from tests.graph.zoo_inputs import GIVEN

DERIVED = [
    "FluxTransformer2DModel",
    "HunyuanDiT2DModel",
    "HunyuanVideoTransformer3DModel",
    "PixArtTransformer2DModel",
    "UNet2DConditionModel",
    "WanTransformer3DModel",
]


def shapes(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, torch.Tensor)}


def test_a_flow_matching_denoiser_gets_packed_tokens_coordinates_and_guidance() -> None:
    inputs = example_inputs(zoo.build("FluxTransformer2DModel"), 2, size=4, tokens=7)
    assert shapes(inputs) == {
        "hidden_states": (2, 16, 4),
        "encoder_hidden_states": (2, 7, 10),
        "pooled_projections": (2, 6),
        "timestep": (2,),
        "img_ids": (16, 3),
        "txt_ids": (7, 3),
        "guidance": (2,),
    }


def test_a_video_denoiser_gets_frames_and_a_u_net_its_added_conditions() -> None:
    assert shapes(example_inputs(zoo.build("WanTransformer3DModel"), 2, size=8))["hidden_states"] == (2, 4, 4, 8, 8)
    inputs = example_inputs(zoo.build("UNet2DConditionModel"), 3)
    assert shapes(inputs)["sample"] == (3, 4, 8, 8)
    added: Any = inputs["added_cond_kwargs"]
    assert shapes(added) == {"text_embeds": (3, 8), "time_ids": (3, 6)}


@pytest.mark.parametrize("name", DERIVED)
def test_derived_inputs_run_and_are_the_same_at_every_call(name: str) -> None:
    model = zoo.build(name)
    first, second = zoo.inputs(name, model, 2), zoo.inputs(name, model, 2)
    assert all(torch.equal(first[key], second[key]) for key in shapes(first))
    with torch.no_grad():
        assert torch.isfinite(model(**first, return_dict=False)[0]).all()


@pytest.mark.parametrize("name", DERIVED)
def test_inputs_follow_the_models_dtype_and_device(name: str) -> None:
    half = zoo.inputs(name, zoo.build(name).to(torch.bfloat16), 1)
    latents = half.get("hidden_states", half.get("sample"))
    assert isinstance(latents, torch.Tensor)
    assert latents.dtype == torch.bfloat16
    empty = zoo.inputs(name, zoo.build(name, "meta"), 1)
    assert shapes(empty) == shapes(half)
    assert empty["sample" if "sample" in empty else "hidden_states"].is_meta
    assert not any(value.is_meta for value in empty.values() if isinstance(value, torch.Tensor) and value.ndim == 1)


@pytest.mark.parametrize("name", ["HunyuanVideo15Transformer3DModel", "Lumina2Transformer2DModel"])
def test_a_model_without_data_that_decides_on_its_inputs_is_traced(name: str) -> None:
    model = zoo.build(name, "meta")
    assert len(trace(model, zoo.inputs(name, model, 1)).weight_layers) > 10


class Asks(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Takes an input that nobody could guess."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, in_channels: int = 4) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, in_channels)

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, mood: torch.Tensor) -> torch.Tensor:
        return self.proj(hidden_states) * timestep * mood  # type: ignore[no-any-return]


def test_an_input_that_cannot_be_derived_is_one_line_with_class_and_input() -> None:
    with pytest.raises(TraceError) as caught:
        example_inputs(Asks())
    expected = "Asks: its config does not tell what input 'mood' is; a plugin's Denoiser.example_inputs can give it"
    assert str(caught.value) == expected


def test_most_classes_need_no_inputs_of_their_own() -> None:
    assert len(GIVEN) <= 18
    assert len(zoo.ZOO) - len(GIVEN) >= 67
