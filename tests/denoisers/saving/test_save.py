"""Saved pipelines: packed on disk, loaded by diffusers, the same pictures, the same bytes again, clear errors."""

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
from safetensors.torch import load_file, save_file

import q2
from q2.denoisers import Denoiser, load
from q2.denoisers.saving.save import Saved, packed, save_packed
from q2.errors import CheckpointError, PassError, Q2Error
from q2.passes.analysis.size import Size
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins, use
from q2.quant.packed.layers import Packed
from q2.version import version
from tests.plugins.test_manager import install

SIX = ("dit", "pixart-alpha", "pixart-sigma", "hunyuan", "sdxl", "sdv15")
MIX = {"by": "regex", "default": "uaq-4", r"to_|conv1|proj": "kmeans-c-3", r"ff|conv2": "kmeans-a-3"}
BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "packed.py"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def quantized(denoiser: Denoiser, **rules: str) -> dict[str, Any]:
    """Quantize in place and return what `size` says."""
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    table = Quantize.from_table(rules or dict(MIX), str)
    return dict(q2.run_passes(graph, [table, Size()], denoiser=denoiser)[-1].report.data)


def same_weights(one: Path, other: Path) -> bool:
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors*"))
    assert files == sorted(path.relative_to(other) for path in other.rglob("*.safetensors*"))
    return all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def config_of(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in table.items() if key != "_name_or_path"}


def bytes_on_disk(file: Path, layers: list[str]) -> int:
    """Sum up what the tensors of quantized layers take in a file, biases left out."""
    with safe_open(file, framework="pt") as tensors:
        names = [n for n in tensors.keys() if n.rpartition(".")[0] in layers and not n.endswith(".bias")]  # noqa: SIM118
        return sum(tensors.get_tensor(name).nbytes for name in names)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A saved folder of a tiny DiT."""
    denoiser = load("dit", tiny=True, device="cpu")
    quantized(denoiser)
    save_packed(denoiser, tmp_path / "tiny")
    return tmp_path / "tiny"


LOAD = """
import sys
import q2
assert "torch" not in sys.modules
from diffusers import DiffusionPipeline
import json, numpy, torch
folder, kind, again, asked = sys.argv[1:]
pipeline = DiffusionPipeline.from_pretrained(folder)
pipeline.set_progress_bar_config(disable=True)
noise = [torch.Generator().manual_seed(i) for i in range(2)]
images = pipeline(**json.loads(asked), generator=noise, num_inference_steps=3, output_type="np").images
numpy.save(again + ".npy", images)
pipeline.save_pretrained(again)
"""


@pytest.mark.parametrize(
    ("name", "component", "asked", "rules"),
    [
        ("digits-dit", "transformer", {"class_labels": [3, 7]}, {"ff": "uaq-3", "default": "kmeans-c-4"}),
        (
            "digits-sdxl",
            "unet",
            {"prompt": ["a photo of the digit six", "a dog"]},
            {"to_": "kmeans-c-4", "default": "uaq-3"},
        ),
    ],
)
def test_a_fresh_process_draws_the_same_from_a_file_of_the_predicted_size(
    tmp_path: Path, name: str, component: str, asked: dict[str, Any], rules: dict[str, str]
) -> None:
    denoiser = load(name, device="cpu")
    size = quantized(denoiser, by="regex", **rules)
    folder, again = tmp_path / "saved", tmp_path / "again"
    saved = save_packed(denoiser, folder)
    assert isinstance(saved, Saved)
    noise = [torch.Generator().manual_seed(i) for i in range(2)]
    images = denoiser.pipeline()(**asked, generator=noise, num_inference_steps=3, output_type="np").images
    command = [sys.executable, "-c", LOAD, str(folder), component, str(again), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
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
    with pytest.raises(CheckpointError, match="is there already; choose another place"):
        save_packed(load("dit", tiny=True, device="cpu"), tiny)
    with pytest.raises(CheckpointError, match="weights on meta make no images"):
        save_packed(load("dit", tiny=True, weights="meta"), tiny.parent / "meta")


def reload(folder: Path) -> None:
    from diffusers import DiTTransformer2DModel

    DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "transformer" / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["quantization_config"] |= changes
    path.write_text(json.dumps(table), encoding="utf-8")


def change_weights(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    path = folder / "transformer" / WEIGHTS
    tensors = load_file(path)
    tensors = {key: value.clone() for key, value in tensors.items() if key != name}
    save_file(tensors if tensor is None else tensors | {name: tensor}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "2.0"}, "format '2.0' is of another version of q2, this one reads 1.x"),
        ({"dtype": "int3"}, "dtype 'int3' is none of float32, float16, bfloat16"),
        ({"layers": {"nowhere": "uaq-4"}}, "the config quantizes 'nowhere', the model has no such layer"),
        ({"layers": {"proj_out_1": "uaq-x"}}, "layers.proj_out_1: 'uaq-x' is no option"),
        ({"layers": {"proj_out_1": "nope-4"}}, "no quantizer named 'nope'"),
        ({"layers": ["proj_out_1"]}, r"layers is \['proj_out_1'\], expected a table"),
        ({"format": "one"}, "format 'one' is none, expected '1.2'"),
        ({"format": None}, "format None is none, expected '1.2'"),
        ({"prec": 5}, "prec 5 is neither 16 nor 32"),
        ({"prec": "16"}, "prec '16' is neither 16 nor 32"),
        ({"dtype": None}, "dtype None is none of float32"),
        ({"activations": 8}, "activations is 8, expected a table"),
        ({"activations": {"bits": 3}}, "activations.bits: should be 4 to 8, or 'none', not 3"),
        ({"activations": {"attn": [8]}}, r"activations.attn: should be 4 to 8, or 'none', not \[8\]"),
        ({"activations": {"by": "layer"}}, "activations.by 'layer' is none of type, name, regex"),
        ({"original": "here"}, "original is 'here', expected a table"),
        ({"quantizers": {"uaq": "q2"}}, "quantizers.uaq is 'q2', expected a table of plugin, version, origin"),
        ({"layrs": {}}, "unknown key 'layrs'; did you mean 'layers'"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_in_a_line(tiny: Path, changes: dict[str, Any], said: str) -> None:
    change_config(tiny, **changes)
    with pytest.raises(Q2Error, match=said) as error:
        reload(tiny)
    assert "\n" not in str(error.value)
    with pytest.raises(Q2Error, match=said) as error:
        _ = load("dit", str(tiny), device="cpu").model
    assert str(tiny) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_config_without_a_format_is_refused_with_the_file(tiny: Path) -> None:
    path = tiny / "transformer" / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    del table["quantization_config"]["format"]
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        _ = load("dit", str(tiny), device="cpu").model
    line = "transformer/config.json: quantization_config: format is missing, expected '1.2'"
    assert str(error.value) == f"checkpoint {str(tiny)!r}: {line}"


def test_a_newer_minor_version_is_read_and_so_is_an_older(tiny: Path) -> None:
    change_config(tiny, format="1.7", invented=True)
    reload(tiny)
    path = tiny / "transformer" / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    for key in ("quantizers", "original", "invented"):
        del table["quantization_config"][key]
    table["quantization_config"]["format"] = "1.0"
    path.write_text(json.dumps(table), encoding="utf-8")
    reload(tiny)


PLUGIN = """
from q2.plugins import hookimpl
from q2.quant.quantizers.uniform import Uaq

class Mine(Uaq):
    name = "mine"

@hookimpl
def q2_quantizers():
    return {"mine": Mine}
"""


@pytest.fixture
def with_mine(tmp_path: Path) -> tuple[Path, Path]:
    """A saved folder of a tiny DiT with a quantizer of a local file, and the file."""
    plugin = tmp_path / "my_quant.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    plugins = Plugins([str(plugin)])
    denoiser = load("dit", tiny=True, device="cpu", plugins=plugins)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    table = Quantize.from_table({"by": "regex", "default": "mine-4", "proj": "uaq-3"}, str)
    q2.run_passes(graph, [table], denoiser=denoiser, plugins=plugins)
    save_packed(denoiser, tmp_path / "mine")
    return tmp_path / "mine", plugin


def test_a_folder_says_which_plugins_its_quantizers_came_from(with_mine: tuple[Path, Path]) -> None:
    folder, _ = with_mine
    path = folder / "transformer" / "config.json"
    assert json.loads(path.read_text(encoding="utf-8"))["quantization_config"]["quantizers"] == {
        "mine": {"plugin": "my_quant.py", "version": "local", "origin": "local"},
        "uaq": {"plugin": "q2", "version": version(), "origin": "built in"},
    }
    assert str(folder.parent) not in path.read_text(encoding="utf-8")


def test_a_plugins_quantizer_is_found_again_and_else_named(with_mine: tuple[Path, Path], tmp_path: Path) -> None:
    folder, plugin = with_mine
    line = r"the quantizer 'mine' comes from the plugin 'my_quant.py' \(local\); give --config with \[plugins\] modules"
    with pytest.raises(CheckpointError, match=line):
        reload(folder)
    with use([str(plugin)]):
        reload(folder)
    with pytest.raises(CheckpointError, match=line):
        reload(folder)
    back = load("dit", str(folder), device="cpu", plugins=Plugins([str(plugin)]))
    assert back.model is not None
    save_packed(back, tmp_path / "again")
    assert config_of(folder / "transformer") == config_of(tmp_path / "again" / "transformer")
    back.plugins = Plugins()
    save_packed(back, tmp_path / "third")
    assert config_of(folder / "transformer") == config_of(tmp_path / "third" / "transformer")


def test_an_installed_plugin_serves_and_is_named_where_it_is_missing(
    with_mine: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plugin = with_mine
    source = {"plugin": "lattice", "version": "2.1", "origin": "entry point"}
    change_config(folder, quantizers={"mine": source})
    with pytest.raises(CheckpointError, match="from the plugin 'lattice' 2.1 .entry point., which is not here"):
        reload(folder)
    install(tmp_path / "site", "lattice", plugin.read_text(encoding="utf-8"), monkeypatch)
    reload(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("proj_out_1.codes_0", None, "'proj_out_1' has 0 bytes of codes, expected"),
        ("proj_out_1.bias", None, "1 weights are missing, among them 'proj_out_1.bias'"),
        ("proj_out_1.codes_0", torch.zeros(3, dtype=torch.uint8), "'proj_out_1' has 3 bytes of codes, expected"),
    ],
)
def test_fewer_weights_than_the_config_names(tiny: Path, name: str, tensor: torch.Tensor | None, said: str) -> None:
    change_weights(tiny, name, tensor)
    with pytest.raises(CheckpointError, match=said):
        reload(tiny)


def test_a_layer_without_any_weights(tiny: Path) -> None:
    for name in ("codes_0", "codebook_0"):
        change_weights(tiny, f"proj_out_1.{name}", None)
    with pytest.raises(CheckpointError, match="the weight of 'proj_out_1' is missing, the config names it"):
        reload(tiny)


def test_q2_reads_no_truncated_file_and_no_other_quantizers_folder(tiny: Path) -> None:
    file = tiny / "transformer" / WEIGHTS
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is truncated or damaged"):
        _ = load("dit", str(tiny), device="cpu").model
    file.write_bytes(whole)
    change_config(tiny, quant_method="bitsandbytes")
    with pytest.raises(CheckpointError, match="transformer was saved by the quantizer 'bitsandbytes', not q2"):
        _ = load("dit", str(tiny), device="cpu").model


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
