"""Saved folders that do not fit: a line that names the file and what is wrong; newer minor versions are read."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from q2.denoisers import load
from q2.errors import CheckpointError, Q2Error
from tests.denoisers.saving.folders import WEIGHTS, change_config, reload


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
