"""Saved pipelines: packed on disk, loaded by diffusers, the same pictures, the same bytes again."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import q2
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import Saved, packed, save_packed
from q2.errors import CheckpointError, PassError, Q2Error
from q2.passes.analysis.size import Size
from q2.quant.packed.layers import Packed
from tests.denoisers.saving.folders import WEIGHTS, config_of, quantized, same_weights

SIX = ("dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15")


BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "packed.py"


def bytes_on_disk(file: Path, layers: list[str]) -> int:
    """Sum up what the tensors of quantized layers take in a file, biases left out."""
    with safe_open(file, framework="pt") as tensors:
        names = [n for n in tensors.keys() if n.rpartition(".")[0] in layers and not n.endswith(".bias")]  # noqa: SIM118
        return sum(tensors.get_tensor(name).nbytes for name in names)


LOAD = """
import sys
import q2
assert "torch" not in sys.modules
from diffusers import DiffusionPipeline
import json, numpy, torch
for folder, again, asked in json.loads(sys.argv[1]):
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    images = pipeline(**asked, generator=noise, num_inference_steps=3, output_type="np").images
    numpy.save(again + ".npy", images)
    pipeline.save_pretrained(again)
"""
EMBEDDED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "digits-dit": ("transformer", {"class_labels": [3, 7]}, {"ff": "uaq-3", "default": "kmeans-c-4"}),
    "digits-sdxl": (
        "unet",
        {"prompt": ["a photo of the digit six", "a dog"]},
        {"to_": "kmeans-c-4", "default": "uaq-3"},
    ),
}


@pytest.fixture(scope="module")
def saved_and_loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[Any, Any, Saved]]]:
    """Both embedded denoisers saved, with their pictures and sizes; one fresh process loads, draws and saves again."""
    place, found = tmp_path_factory.mktemp("both"), {}
    for name, (_, asked, rules) in EMBEDDED.items():
        denoiser = load(name, device="cpu")
        size = quantized(denoiser, by="regex", **rules)
        saved = save_packed(denoiser, place / name)
        assert isinstance(saved, Saved)
        noise = [torch.Generator().manual_seed(i) for i in range(2)]
        found[name] = (
            denoiser.pipeline()(**asked, generator=noise, num_inference_steps=3, output_type="np").images,
            size,
            saved,
        )
    asked_of = [(str(place / name), f"{place / name}-again", asked) for name, (_, asked, _) in EMBEDDED.items()]
    command = [sys.executable, "-c", LOAD, json.dumps(asked_of)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return place, found


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_fresh_process_draws_the_same_from_a_file_of_the_predicted_size(
    saved_and_loaded: tuple[Path, dict[str, tuple[Any, Any, Saved]]], name: str
) -> None:
    place, found = saved_and_loaded
    (images, size, saved), component = found[name], EMBEDDED[name][0]
    folder, again = place / name, place / f"{name}-again"
    assert np.array_equal(np.load(f"{again}.npy"), images)
    assert same_weights(folder, again)
    assert config_of(folder / component) == config_of(again / component)
    layers = list(config_of(folder / component)["quantization_config"]["layers"])
    there = bytes_on_disk(folder / component / WEIGHTS, layers)
    assert there == saved.packed == size["bytes"]
    assert 3.5 <= size["avg_bits"] <= 4.3
    assert there <= 4.6 / 16 * size["full_bytes"]
    file = folder / component / WEIGHTS
    others = sum(t.nbytes for t in load_file(file).values()) - there
    header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    assert file.stat().st_size == saved.files == header + there + others
    assert "torch.float32" not in {str(t.dtype) for t in load_file(file).values()}


def test_float32_that_float16_does_not_hold_stays_what_it_is(tiny: Path) -> None:
    held = load_file(tiny / "transformer" / WEIGHTS)
    assert held["transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"].dtype == torch.float32
    assert held["proj_out_2.bias"].dtype == (torch.float16 if not held["proj_out_2.bias"].any() else torch.float32)


@pytest.mark.parametrize("name", SIX)
def test_every_family_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    denoiser = load(name, tiny=True, device="cpu", dtype="float16" if name == "dit" else "float32")
    size = quantized(denoiser)
    folder = tmp_path / "one"
    assert save_packed(denoiser, folder).packed == size["bytes"]
    back = load(name, str(folder), device="cpu", dtype=str(denoiser.dtype).removeprefix("torch."))
    inputs = denoiser.example_inputs(batch=2)
    with torch.no_grad():
        assert torch.equal(back.model(**inputs, return_dict=False)[0], denoiser.model(**inputs, return_dict=False)[0])
    assert sum(isinstance(module, Packed) for module in back.model.modules()) > 10
    assert back.example_inputs().keys() == inputs.keys()
    save_packed(back, tmp_path / "two")
    assert same_weights(folder, tmp_path / "two")
    assert config_of(folder / back.component) == config_of(tmp_path / "two" / back.component)


def test_the_model_class_alone_loads_the_folder_in_the_dtype_of_the_run(tmp_path: Path) -> None:
    from diffusers import DiTTransformer2DModel

    denoiser: Any = load("dit", tiny=True, device="cpu", dtype="float16")
    quantized(denoiser)
    save_packed(denoiser, tmp_path / "half")
    for options, dtype in (({}, torch.float16), ({"torch_dtype": torch.float32}, torch.float32)):
        model = DiTTransformer2DModel.from_pretrained(tmp_path / "half", subfolder="transformer", **options)
        layer = model.transformer_blocks[0].attn1.to_q
        assert type(layer).__name__ == "PackedLinear"
        assert layer.weight.dtype == layer.bias.dtype == model.dtype == dtype
        if dtype == torch.float16:
            assert torch.equal(layer.weight, denoiser.model.transformer_blocks[0].attn1.to_q.weight)
    plain = model.dequantize()
    assert type(plain.transformer_blocks[0].attn1.to_q) is torch.nn.Linear


def test_a_folder_may_be_saved_over_the_one_it_came_from(tiny: Path, tmp_path: Path) -> None:
    from diffusers import DiTTransformer2DModel

    before = (tiny / "transformer" / WEIGHTS).read_bytes()
    model = DiTTransformer2DModel.from_pretrained(tiny / "transformer")
    model.save_pretrained(tiny / "transformer")
    assert (tiny / "transformer" / WEIGHTS).read_bytes() == before
    assert torch.isfinite(model.proj_out_1.weight).all()


def test_shards_are_written_and_read(tiny: Path, tmp_path: Path) -> None:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel.from_pretrained(tiny, subfolder="transformer")
    model.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    back = DiTTransformer2DModel.from_pretrained(tmp_path / "shards")
    assert all(torch.equal(one, back.state_dict()[name]) for name, one in model.state_dict().items())


def test_saving_changes_nothing_in_the_model(tmp_path: Path) -> None:
    denoiser: Any = load("dit", tiny=True, device="cpu")
    quantized(denoiser)
    before = dict(denoiser.model.named_modules())
    config = dict(denoiser.model.config)
    save_packed(denoiser, tmp_path / "saved")
    assert dict(denoiser.model.named_modules()) == before
    assert dict(denoiser.model.config) == config
    assert not hasattr(denoiser.model, "hf_quantizer")


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = load("dit", tiny=True, device="cpu")
    quantized(denoiser)

    def full(*args: Any, **kwargs: Any) -> None:
        (args[0] / "half").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(denoiser.pipeline(), "save_pretrained", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save_packed(denoiser, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_is_left_alone(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="already exists; choose another place"):
        save_packed(load("dit", tiny=True, device="cpu"), tiny)
    with pytest.raises(CheckpointError, match="weights on meta make no images"):
        save_packed(load("dit", tiny=True, weights="meta"), tiny.parent / "meta")


def test_packed_layers_are_sized_and_not_quantized_again(tiny: Path) -> None:
    denoiser = load("dit", str(tiny), device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    graph.verify()
    assert q2.run_passes(graph, [Size()])[0].report.data["bytes"] == packed_size(denoiser)
    with pytest.raises(PassError, match="is packed, its full-precision weight is gone"):
        quantized(denoiser, by="type", linear="uaq-8")


def packed_size(denoiser: Denoiser) -> int:
    return sum(module.bytes for module in denoiser.model.modules() if isinstance(module, Packed))


def test_pickles_are_not_written(tiny: Path, tmp_path: Path) -> None:
    model = load("dit", str(tiny), device="cpu").model
    with pytest.raises(Q2Error, match="packed weights are saved as safetensors"):
        model.save_pretrained(tmp_path / "pickled", safe_serialization=False)  # type: ignore[operator]


PEAK = """
import re, sys
from pathlib import Path
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
import q2
from diffusers import DiTTransformer2DModel
import torch
from q2.quant.packed.packing import unpack
unpack(torch.zeros(8, dtype=torch.uint8), 4, 16)  # compiles
before = peak()
model = DiTTransformer2DModel.from_pretrained(sys.argv[1])
for layer in model.modules():  # the file is mapped: reading it is what counts
    getattr(layer, "weight", None)
print(peak() - before)
"""


def test_loading_never_holds_the_full_size_weights(tmp_path: Path) -> None:
    from diffusers import DiTTransformer2DModel

    config = {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 5, "sample_size": 16}
    filled = runpy.run_path(str(BENCHMARK))["filled"]
    model = filled(DiTTransformer2DModel, config, "uaq-4")
    with packed(model, "float16") as size:
        model.save_pretrained(tmp_path / "model")
    file = (tmp_path / "model" / WEIGHTS).stat().st_size
    assert size > 50e6
    command = [sys.executable, "-c", PEAK, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout.splitlines()[-1]) <= 1.15 * file + 32e6 < 4 * size
