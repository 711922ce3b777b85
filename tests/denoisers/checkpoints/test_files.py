"""Which files weights are read from: exactly those that diffusers loads, and clear errors for the rest."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import q2
from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import save_packed
from q2.errors import CheckpointError, Q2Error
from q2.passes.transform.quantize import Quantize
from q2.session.session import Session
from q2.session.transform import transform

WEIGHTS = "diffusion_pytorch_model.safetensors"
LAYER = "transformer_blocks.0.attn1.to_q.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the pipeline folder of digits-dit."""
    checkpoint = load("digits-dit").checkpoint
    assert checkpoint is not None
    assert checkpoint.local is not None
    return Path(shutil.copytree(checkpoint.local, tmp_path / "dit"))


def tripled(file: Path) -> dict[str, torch.Tensor]:
    return {name: tensor * 3 for name, tensor in load_file(file).items()}


def as_loaded(denoiser: Denoiser) -> bool:
    """Say whether every stored weight is what the model has."""
    state, stored = denoiser.model.state_dict(), denoiser.stored
    assert stored is not None
    return set(state) == set(stored) and all(torch.equal(stored[name].float(), state[name]) for name in state)


def test_a_stale_single_file_beside_shards_is_not_read(folder: Path) -> None:
    model: Any = load("digits-dit").model
    model.save_pretrained(folder / "transformer", max_shard_size="1MB")
    save_file(tripled(folder / "transformer" / WEIGHTS), folder / "transformer" / WEIGHTS, {"format": "pt"})
    denoiser = load("digits-dit", str(folder), device="cpu")
    assert torch.equal(denoiser.model.state_dict()[LAYER], model.state_dict()[LAYER])
    assert as_loaded(denoiser)


def test_a_file_of_another_name_is_not_read(folder: Path) -> None:
    save_file(tripled(folder / "transformer" / WEIGHTS), folder / "transformer" / "ema_model.safetensors")
    assert as_loaded(load("digits-dit", str(folder), device="cpu"))


@pytest.mark.parametrize("index", ["{}.safetensors.index.fp16.json", "{}.safetensors.fp16.index.json"])
def test_a_variant_is_taken_where_it_is_asked_for_or_alone(folder: Path, index: str) -> None:
    model: Any = load("digits-dit").model
    expected = model.state_dict()[LAYER].clone()
    with torch.no_grad():
        model.transformer_blocks[0].attn1.to_q.weight.mul_(2)
    model.save_pretrained(folder / "transformer", variant="fp16", max_shard_size="1MB")
    stem = "diffusion_pytorch_model"
    (folder / "transformer" / f"{stem}.safetensors.index.fp16.json").rename(folder / "transformer" / index.format(stem))
    plain = load("digits-dit", str(folder), device="cpu")
    assert torch.equal(plain.model.state_dict()[LAYER], expected)
    half = load("digits-dit", str(folder), variant="fp16", device="cpu")
    assert torch.equal(half.model.state_dict()[LAYER], 2 * expected)
    assert as_loaded(plain)
    assert as_loaded(half)
    with pytest.raises(CheckpointError, match=f"transformer holds no file of the variant 'bf16', but '{stem}"):
        _ = load("digits-dit", str(folder), variant="bf16", device="cpu").model
    (folder / "transformer" / WEIGHTS).unlink()
    assert torch.equal(load("digits-dit", str(folder), device="cpu").model.state_dict()[LAYER], 2 * expected)


def test_bfloat16_weights_are_read_as_they_are(folder: Path) -> None:
    file = folder / "transformer" / WEIGHTS
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    denoiser = load("digits-dit", str(folder), device="cpu", dtype="bfloat16")
    assert denoiser.stored is not None
    assert denoiser.stored[LAYER].dtype == denoiser.model.state_dict()[LAYER].dtype == torch.bfloat16
    assert torch.equal(denoiser.stored[LAYER], denoiser.model.state_dict()[LAYER])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({LAYER: None}, f"transformer/{WEIGHTS}: 1 tensor of DiTTransformer2DModel missing: '{LAYER}'"),
        (
            {"a": torch.ones(1), "b": torch.ones(1)},
            f"transformer/{WEIGHTS}: 2 tensors that DiTTransformer2DModel does not have: 'a', 'b'",
        ),
        ({LAYER: torch.ones(3, 3)}, "cannot be loaded: "),
    ],
)
def test_a_tensor_too_few_or_too_many_is_one_line(
    folder: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    file = folder / "transformer" / WEIGHTS
    tensors = {**load_file(file), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=f"^checkpoint '{folder}': {said}") as error:
        _ = load("digits-dit", str(folder), device="cpu").model
    assert "\n" not in str(error.value)


def test_a_shard_that_is_missing_is_one_line(folder: Path) -> None:
    model: Any = load("digits-dit").model
    model.save_pretrained(folder / "transformer", max_shard_size="1MB")
    shard = next((folder / "transformer").glob("*-of-*"))
    shard.unlink()
    with pytest.raises(CheckpointError, match=f"index.json: names {shard.name}, which is not there"):
        _ = load("digits-dit", str(folder), device="cpu").model


@pytest.mark.parametrize("named", [True, False])
def test_a_components_folder_alone_is_quantized_saved_and_loaded(folder: Path, tmp_path: Path, named: bool) -> None:
    alone = folder / "transformer"
    name = "digits-dit" if named else ""
    denoiser = load(name, str(alone), device="cpu")
    assert denoiser.fingerprint == load("digits-dit").fingerprint
    assert as_loaded(denoiser)
    with pytest.raises(
        CheckpointError, match="is a component alone, which makes no images; give its pipeline's folder"
    ):
        denoiser.pipeline()
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    q2.run_passes(graph, [Quantize(default="uaq-4")], denoiser=denoiser)
    save_packed(denoiser, tmp_path / "packed")
    assert not (tmp_path / "packed" / "model_index.json").exists()
    back, inputs = load(name, str(tmp_path / "packed"), device="cpu"), denoiser.example_inputs(2)
    assert torch.equal(back.model(**inputs).sample, denoiser.model(**inputs).sample)


def test_a_run_over_a_component_says_that_it_makes_no_samples(folder: Path, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    checkpoint = f"denoiser.checkpoint={folder / 'transformer'}"
    run = RunFile.load("digits-dit.toml", [checkpoint, "samples.images=8", "passes.stats.samples=0"])
    session = Session(run, show=lambda step: said.append((step.title, step.summary)))
    done = transform(session, tmp_path / "run", packed=tmp_path / "saved")
    assert ("samples", "left out: the checkpoint is a component alone, which makes no images") in said
    assert done.comparison is None
    assert (tmp_path / "saved" / "config.json").is_file()


def test_a_subfolder_is_a_pipeline_or_a_component(folder: Path) -> None:
    expected = load("digits-dit").fingerprint
    assert load("digits-dit", str(folder.parent), subfolder="dit", device="cpu").fingerprint == expected
    assert load("digits-dit", str(folder), subfolder="transformer", device="cpu").fingerprint == expected
    assert len(load("digits-dit", str(folder.parent), subfolder="dit", device="cpu").generate(1, steps=1).images) == 1
    refused: list[tuple[dict[str, Any], str]] = [
        ({"subfolder": "dti"}, "there is no subfolder 'dti' in it"),
        ({"subfolder": "scheduler"}, "scheduler is no pipeline folder, model_index.json is missing"),
        ({"revision": "main"}, "is a folder, and revision is of the Hub; leave it out"),
    ]
    for wanted, said in refused:
        with pytest.raises(CheckpointError, match=f"^checkpoint '{folder}': {said}"):
            load("digits-dit", str(folder), **wanted)


@pytest.fixture
def cached(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A Hub's cache with two revisions of a repository, the second with weights three times as large."""
    from huggingface_hub import constants

    repository = tmp_path / "hub" / "models--owner--digits"
    for number, name in enumerate(("main", "v2")):
        place = repository / "snapshots" / (str(number) * 40)
        shutil.copytree(folder, place)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(str(number) * 40, encoding="utf-8")
    file = repository / "snapshots" / ("1" * 40) / "transformer" / WEIGHTS
    save_file(tripled(file), file, {"format": "pt"})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return "owner/digits"


def test_a_hub_id_takes_revision_and_subfolder(cached: str) -> None:
    once, thrice = (load("digits-dit", cached, revision=name, device="cpu") for name in ("", "v2"))
    assert torch.allclose(thrice.model.state_dict()[LAYER], 3 * once.model.state_dict()[LAYER], rtol=1e-3)
    assert as_loaded(once)
    assert as_loaded(thrice)
    assert len(thrice.generate(1, steps=1).images) == 1
    alone = load(checkpoint=cached, subfolder="transformer", revision="v2", device="cpu")
    assert alone.fingerprint == thrice.fingerprint
    assert as_loaded(alone)
    assert not alone.has_pipeline
    with pytest.raises(CheckpointError, match="checkpoint 'owner/digits': cannot be loaded: it is not in the cache"):
        _ = load("digits-dit", cached, revision="v3", device="cpu").model


def test_an_index_of_a_pipeline_that_is_none_is_one_line(folder: Path) -> None:
    (folder / "model_index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(CheckpointError, match="model_index.json is no JSON object"):
        _ = load(checkpoint=str(folder), device="cpu").model
    (folder / "transformer" / f"{WEIGHTS}.index.json").write_text(json.dumps({"weights": 1}), encoding="utf-8")
    (folder / "model_index.json").write_text(json.dumps({"transformer": ["diffusers", "DiTTransformer2DModel"]}))
    with pytest.raises(Q2Error, match=f"{WEIGHTS}.index.json: is no index of weight files .KeyError: 'weight_map'"):
        _ = load(checkpoint=str(folder), device="cpu").model
