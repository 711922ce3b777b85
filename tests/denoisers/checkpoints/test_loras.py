"""LoRAs fused before anything is looked at: what PEFT makes of them, in every layout, and clear errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import q2
from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import save_packed
from q2.errors import CheckpointError, ConfigError
from q2.passes.transform.quantize import Quantize
from q2.session.session import Session
from tests.denoisers.checkpoints.layouts import kohya

NAME = "pytorch_lora_weights.safetensors"


def factors(model: nn.Module, *ends: str, rank: int = 3) -> dict[str, tuple[Tensor, Tensor]]:
    """Return down and up for the Linear layers whose names end so."""
    draw = torch.Generator().manual_seed(1)
    return {
        name: (
            0.1 * torch.randn(rank, module.in_features, generator=draw),
            0.1 * torch.randn(module.out_features, rank, generator=draw),
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith(ends)
    }


@pytest.fixture(scope="module")
def sdxl() -> Denoiser:
    return load("digits-sdxl", device="cpu")


@pytest.fixture
def adapter(sdxl: Denoiser, tmp_path: Path) -> Path:
    """A LoRA of U-Net and first text encoder, as diffusers saves one, with α = 8 at rank 4."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline, states, notes = load("digits-sdxl", device="cpu").pipeline(), {}, {}
    torch.manual_seed(0)
    for name, layers in (("unet", ["to_q", "to_v", "proj_in", "conv1"]), ("text_encoder", ["q_proj", "fc1"])):
        part = getattr(pipeline, name)
        part.add_adapter(LoraConfig(r=4, lora_alpha=8, target_modules=layers, init_lora_weights=False), "default")
        states[f"{name}_lora_layers"] = get_peft_model_state_dict(part)
        settings = part.peft_config["default"].to_dict()
        notes[f"{name}_lora_adapter_metadata"] = {**settings, "target_modules": layers}
    pipeline.save_lora_weights(tmp_path / "adapter", **states, **notes)
    return tmp_path / "adapter"


def fused_by_peft(path: Path, weight: float) -> Any:
    pipeline = load("digits-sdxl", device="cpu").pipeline()
    pipeline.load_lora_weights(path)
    pipeline.fuse_lora(components=["unet", "text_encoder"], lora_scale=weight)
    pipeline.unload_lora_weights()
    return pipeline


def same(one: nn.Module, other: nn.Module) -> bool:
    wanted = other.state_dict()
    return all(torch.allclose(tensor, wanted[name], atol=1e-6, rtol=0) for name, tensor in one.state_dict().items())


def test_it_is_what_peft_fuses_in_the_text_encoder_too(sdxl: Denoiser, adapter: Path) -> None:
    theirs = fused_by_peft(adapter, 0.5)
    denoiser = load("digits-sdxl", loras=[{"path": str(adapter), "weight": 0.5}], device="cpu")
    assert same(denoiser.model, theirs.unet)
    assert same(denoiser.pipeline().text_encoder, theirs.text_encoder)
    assert not same(denoiser.model, sdxl.model)
    assert not same(denoiser.pipeline().text_encoder, sdxl.pipeline().text_encoder)
    assert denoiser.fingerprint != sdxl.fingerprint
    assert denoiser.source.endswith("digits-sdxl + adapter × 0.5")


def test_kohyas_names_and_alphas_are_understood(sdxl: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "kohya.safetensors"
    save_file(kohya(factors(sdxl.model, "to_q", "to_out.0", "proj_in"), alpha=1.5), path)
    theirs = load("digits-sdxl", device="cpu").pipeline()
    theirs.load_lora_weights(path)
    theirs.fuse_lora(components=["unet"])
    theirs.unload_lora_weights()
    assert same(load("digits-sdxl", loras=[{"path": str(path)}], device="cpu").model, theirs.unet)


def test_two_are_added_and_one_of_a_component_alone(tmp_path: Path) -> None:
    plain: Any = load("digits-dit", device="cpu")
    layers = factors(plain.model, "attn1.to_k")
    names = {"A": 0, "B": 1}
    save_file(
        {
            f"transformer.{layer}.lora_{side}.weight": pair[i]
            for layer, pair in layers.items()
            for side, i in names.items()
        },
        tmp_path / "a.safetensors",
    )
    loras = [{"path": str(tmp_path / "a.safetensors"), "weight": weight} for weight in (1.0, -0.25)]
    alone = str(plain.checkpoint.local / "transformer")
    for checkpoint in ("", alone):
        model: Any = load("digits-dit", checkpoint, loras=loras, device="cpu").model
        for layer, (down, up) in layers.items():
            expected = plain.model.get_submodule(layer).weight + 0.75 * up @ down
            assert torch.allclose(model.get_submodule(layer).weight, expected, atol=1e-6)


def test_what_is_quantized_and_switched_back_is_the_fused_weight(sdxl: Denoiser, adapter: Path) -> None:
    denoiser = load("digits-sdxl", loras=[{"path": str(adapter)}], device="cpu")
    fused = {name: tensor.clone() for name, tensor in denoiser.model.state_dict().items()}
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    q2.run_passes(graph, [Quantize(default="uaq-3")], denoiser=denoiser)
    assert not same(denoiser.model, load("digits-sdxl", loras=[{"path": str(adapter)}], device="cpu").model)
    q2.run_passes(graph, [Quantize(by="regex", rules={".": "none"})], denoiser=denoiser)
    assert all(torch.equal(tensor, fused[name]) for name, tensor in denoiser.model.state_dict().items())


def test_a_run_file_says_them_and_finds_them_beside_itself(adapter: Path) -> None:
    text = f'[denoiser]\nname = "digits-sdxl"\nloras = [{{ path = "{adapter.name}", weight = 2 }}]\n'
    (adapter.parent / "run.toml").write_text(text, encoding="utf-8")
    session = Session(RunFile.load(str(adapter.parent / "run.toml")))
    assert session.denoiser.source.endswith("+ adapter × 2")
    assert session.denoiser.selection.loras[0].path == str(adapter)
    assert session.shapes.weights == "meta"


def written(folder: Path, **tensors: Tensor) -> str:
    save_file(tensors, folder / "bad.safetensors")
    return str(folder / "bad.safetensors")


def test_one_for_another_model_is_one_line(sdxl: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "sdxl.safetensors"
    save_file(kohya(factors(sdxl.model, "to_q"), alpha=1.0), path)
    with pytest.raises(CheckpointError, match=f"^lora '{path}': is for another model: of its 22 layers 22 are not in"):
        _ = load("digits-dit", loras=[{"path": str(path)}], device="cpu").model
    tall = {name: (torch.zeros(2, 7), torch.zeros(7, 2)) for name in factors(sdxl.model, "mid_block", "to_q")}
    save_file(kohya(tall, alpha=1.0), path)
    with pytest.raises(CheckpointError, match="or of another size: 'down_blocks"):
        _ = load("digits-sdxl", loras=[{"path": str(path)}], device="cpu").model


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("text_encoder.encoder.layers.0.mlp.fc1.lora_A.weight",), "has nothing for unet"),
        (("unet.mid_block.lora_magnitude_vector",), "is a DoRA, LoKr or LoHa, which q2 cannot fuse"),
        (("unet.conv_in.weight",), "1 tensor of it are no factors: 'unet.conv_in.weight'"),
    ],
)
def test_what_is_no_lora_is_one_line(tmp_path: Path, names: tuple[str, ...], said: str) -> None:
    path = written(tmp_path, **dict.fromkeys(names, torch.zeros(2, 2)))
    with pytest.raises(CheckpointError, match=f"^lora '{path}': {said}") as error:
        _ = load("digits-sdxl", loras=[{"path": path}], device="cpu").model
    assert "\n" not in str(error.value)


def test_a_path_that_is_not_there_is_said_before_anything_is_loaded(tmp_path: Path, adapter: Path) -> None:
    for path, said in (
        ("/nowhere/a.safetensors", "no such file or folder, and not a Hub id"),
        (str(tmp_path), "name the file: no .safetensors file is in it"),
        (__file__, "is no .safetensors file, and q2 reads no pickled weights"),
    ):
        with pytest.raises(CheckpointError, match=f"^lora '{path}': {said}"):
            load("digits-sdxl", loras=[{"path": path}])
    with pytest.raises(ConfigError, match="loras are fused into pretrained weights, not random ones"):
        load("digits-sdxl", weights="random", loras=[{"path": str(adapter)}])


def test_packed_weights_take_none(adapter: Path, tmp_path: Path) -> None:
    denoiser = load("digits-sdxl", device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    q2.run_passes(graph, [Quantize(default="uaq-4")], denoiser=denoiser)
    save_packed(denoiser, tmp_path / "packed")
    with pytest.raises(CheckpointError, match="is quantized; fuse it into full precision, then quantize"):
        _ = load("digits-sdxl", str(tmp_path / "packed"), loras=[{"path": str(adapter)}], device="cpu").model


def test_the_file_is_not_changed(adapter: Path) -> None:
    before = load_file(adapter / NAME)
    _ = load("digits-sdxl", loras=[{"path": str(adapter)}], device="cpu").model
    after = load_file(adapter / NAME)
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
