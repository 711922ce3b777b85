"""Single files in the layout of their authors: the same weights, the same images, clear errors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.errors import CheckpointError, ConfigError
from q2.session.bank import build_bank
from q2.session.session import Session
from tests.denoisers.checkpoints.layouts import write_single


@pytest.fixture(scope="module")
def sdxl() -> Denoiser:
    return load("digits-sdxl", device="cpu")


@pytest.fixture(scope="module")
def single(sdxl: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """U-Net and autoencoder of digits-sdxl in one file."""
    path = tmp_path_factory.mktemp("single") / "fine-tune.safetensors"
    write_single(sdxl.pipeline(), path)
    return path


def test_a_single_file_gives_the_folders_images(sdxl: Denoiser, single: Path) -> None:
    denoiser = load("digits-sdxl", str(single), device="cpu")
    assert denoiser.fingerprint == sdxl.fingerprint
    assert torch.equal(denoiser.generate(2, seed=3, steps=2).images, sdxl.generate(2, seed=3, steps=2).images)


def test_its_weights_are_streamed_by_their_names_in_the_model(sdxl: Denoiser, single: Path) -> None:
    stored = load("digits-sdxl", str(single), device="cpu").stored
    assert stored is not None
    assert all(torch.equal(stored[name], tensor) for name, tensor in sdxl.model.state_dict().items())


def test_a_bank_is_that_of_the_folder(sdxl: Denoiser, single: Path, tmp_path: Path) -> None:
    run = RunFile.load("digits-sdxl.toml", [f"denoiser.checkpoint={single}", 'bank.options=["uaq-3"]'])
    assert build_bank(Session(run), tmp_path / "bank").bank.plan.weights == sdxl.fingerprint


def test_a_file_with_the_denoiser_alone_takes_the_rest_from_the_configs(sdxl: Denoiser, tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    write_single(sdxl.pipeline(), path, vae=False)
    assert sdxl.checkpoint is not None
    denoiser = load(checkpoint=str(path), config=str(sdxl.checkpoint.local), device="cpu")
    assert denoiser.label == "UNet2DConditionModel"
    assert denoiser.fingerprint == sdxl.fingerprint
    assert denoiser.pipeline().vae.config.block_out_channels == sdxl.pipeline().vae.config.block_out_channels
    save_file({name: tensor.contiguous() for name, tensor in sdxl.model.state_dict().items()}, path)
    assert load("digits-sdxl", str(path), device="cpu").fingerprint == sdxl.fingerprint  # diffusers' own names


def test_without_configs_it_says_what_to_give(single: Path) -> None:
    with pytest.raises(CheckpointError, match="its configs come from .*, which is not available; give config, a local"):
        _ = load(checkpoint=str(single), device="cpu").model


def test_a_tensor_too_few_or_too_many_is_one_line(sdxl: Denoiser, single: Path, tmp_path: Path) -> None:
    name, path = "mid_block.attentions.0.proj_in.weight", tmp_path / "less.safetensors"
    write_single(sdxl.pipeline(), path, leave_out=name)
    said = f"checkpoint '{path}': 1 tensor of UNet2DConditionModel missing: '{name}'"
    with pytest.raises(CheckpointError, match=f"^{said}$"):
        _ = load("digits-sdxl", str(path), device="cpu").model
    with pytest.raises(CheckpointError, match=r"1310 tensors of UNet2DConditionModel missing: .* and 1307 more$"):
        _ = load("sdxl", str(single), device="cpu").model
    tensors = {**sdxl.model.state_dict(), "conv_in.bias": torch.zeros(3), "more": torch.zeros(1)}
    save_file({each: tensor.contiguous() for each, tensor in tensors.items()}, path)
    with pytest.raises(CheckpointError, match="^checkpoint '.*less.safetensors': "):
        _ = load("digits-sdxl", str(path), device="cpu").model


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "model.ckpt",
            b"PK",
            "is a file, expected a pipeline folder or a .safetensors file; q2 reads no pickled weights",
        ),
        ("model.toml", b"a = 1", "is a file, expected a pipeline folder or a .safetensors file$"),
        ("model.safetensors", b"PK\3\4 no head", "model.safetensors: is truncated or damaged"),
    ],
)
def test_a_file_of_another_kind_is_one_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as error:
        _ = load("digits-sdxl", str(tmp_path / name), device="cpu").model
    assert "\n" not in str(error.value)


def test_what_is_said_of_folders_is_not_for_a_file(single: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a single file, which has no revision; leave it out"):
        load("digits-sdxl", str(single), revision="main")
    with pytest.raises(ConfigError, match="config needs model, the class that it is for, or a checkpoint that is a"):
        load("digits-sdxl", config="elsewhere")
