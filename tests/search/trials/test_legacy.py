"""The reference's pickles: read with q2's names, and nothing in them is ever run."""

import collections
import datetime
import hashlib
import os
import pickle
import pickletools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from q2.errors import TrialError
from q2.search.trials.legacy import read_legacy
from q2.search.trials.unpickle import read_pickle

CONFIG = {
    "model.pos_embed.proj.weight_quantizer": ["kmeans-4", 36864, 9216 + 2048, 0.25],
    "model.blocks.0.attn1.to_q.weight_quantizer": ["mse-3", 2654208, np.float64(5e5), np.float32(0.5)],
    "model.up.conv1.weight_quantizer": ["kmeans_all-3", 100, 20, 0.125],
    "model.up.conv1.weight_quantizer_0": ["kmeans_all-4", 100, 25, np.float16(0.125)],
}
RECIPE = {
    "pos_embed.proj": "kmeans-c-4",
    "blocks.0.attn1.to_q": "uaq-3",
    "up.conv1": "kmeans-a-3",
    "up.conv1#1": "kmeans-a-4",
}


def written(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_a_cache_is_a_list_of_trials_with_their_metrics(tmp_path: Path, protocol: int) -> None:
    entry = {"config": CONFIG, "quantized_size": 123, "FID-GT-1k": np.float64(91.5), "avg_bits": 3.75, "note": "x"}
    path = written(tmp_path / "quant_cache.pkl", [entry, {"config": dict(list(CONFIG.items())[:1])}], protocol)
    first, second = read_legacy(path)
    assert first.recipe == RECIPE
    assert first.metrics == {"quantized_size": 123.0, "FID-GT-1k": 91.5, "avg_bits": 3.75}
    assert (first.number, first.seed, first.strategy, second.number) == (0, 42, "reference", 1)
    assert second.recipe == {"pos_embed.proj": "kmeans-c-4"}


def test_the_layers_of_stable_diffusion_get_the_names_of_diffusers(tmp_path: Path) -> None:
    names = compvis_names()
    assert len(names) == 282
    config = {f"model.{name}.weight_quantizer": "mse-4" for name in names}
    split = [f"model.output_blocks.{index}.0.in_layers.2.weight_quantizer_0" for index in range(12)]
    (found,) = read_legacy(written(tmp_path / "sdv15_40.pkl", {**config, **dict.fromkeys(split, "mse-3")}))
    whole = sorted(layer for layer in found.recipe if not layer.endswith("#1"))
    digest = hashlib.sha256("\n".join(whole).encode()).hexdigest()
    assert digest[:16] == "dd6091162eb4b863"  # of the sorted names in diffusers' UNet2DConditionModel
    assert {layer for layer in found.recipe if layer.endswith("#1")} == {
        f"up_blocks.{block}.resnets.{index}.conv1#1" for block in range(4) for index in range(3)
    }


def compvis_names() -> list[str]:
    """Return the weight layers of the CompVis U-Net, block by block."""
    block = ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v"]
    block += ["attn2.to_out.0", "ff.net.0.proj", "ff.net.2"]
    transformer = ["proj_in", "proj_out", *(f"transformer_blocks.0.{name}" for name in block)]
    resnets = [f"input_blocks.{index}.0" for index in (1, 2, 4, 5, 7, 8, 10, 11)] + ["middle_block.0", "middle_block.2"]
    resnets += [f"output_blocks.{index}.0" for index in range(12)]
    attentions = [f"input_blocks.{index}.1" for index in (1, 2, 4, 5, 7, 8)] + ["middle_block.1"]
    attentions += [f"output_blocks.{index}.1" for index in range(3, 12)]
    shortcuts = [f"input_blocks.{index}.0" for index in (4, 7)] + [f"output_blocks.{index}.0" for index in range(12)]
    names = ["time_embed.0", "time_embed.2", "input_blocks.0.0", "out.2"]
    names += [f"input_blocks.{index}.0.op" for index in (3, 6, 9)]
    names += ["output_blocks.2.1.conv", "output_blocks.5.2.conv", "output_blocks.8.2.conv"]
    names += [f"{name}.{layer}" for name in resnets for layer in ("in_layers.2", "emb_layers.1", "out_layers.3")]
    names += [f"{name}.skip_connection" for name in shortcuts]
    return names + [f"{name}.{layer}" for name in attentions for layer in transformer]


def test_a_cache_may_be_a_dictionary_and_a_configuration_stand_alone(tmp_path: Path) -> None:
    plain = {key: value[0] for key, value in CONFIG.items()}
    (found,) = read_legacy(written(tmp_path / "dit_40.pkl", collections.OrderedDict(plain)))
    assert (found.recipe, found.metrics) == (RECIPE, {})
    (found,) = read_legacy(written(tmp_path / "cache.pkl", {"id-7": {"config": plain, "bops": 1}}))
    assert (found.recipe, found.metrics) == (RECIPE, {"bops": 1.0})
    (found,) = read_legacy(written(tmp_path / "stats.pkl", CONFIG))
    assert found.recipe == RECIPE


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.array(["ab", "c"]),
        np.array([True, False]),
        np.float16(0.1),
        np.array(3),
        np.zeros((0, 2), np.uint8),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_come_back_as_lists(tmp_path: Path, array: Any, protocol: int) -> None:
    assert read_pickle(written(tmp_path / "array.pkl", {"x": [array]}, protocol)) == {"x": [array.tolist()]}


class Payload:
    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", ["system", "exec", "getattr", "import"])
def test_a_malicious_pickle_is_refused_in_one_line_and_does_nothing(tmp_path: Path, name: str, protocol: int) -> None:
    sign = tmp_path / "was-here"
    payload = {
        "system": Payload(os.system, f"touch {sign}"),
        "exec": Payload(exec, f"open({str(sign)!r}, 'w')"),
        "getattr": Payload(getattr, Payload(__import__, "os"), "system"),
        "import": Payload(__import__, "os"),
    }[name]
    path = written(tmp_path / "quant_cache.pkl", [{"config": CONFIG}, payload], protocol)
    with pytest.raises(TrialError) as error:
        read_legacy(path)
    assert str(error.value).startswith(f"{path}: refused, it names '")
    assert "\n" not in str(error.value)
    assert not sign.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (datetime.date(2024, 1, 1), "refused, it names 'datetime.date'"),
        (np.array([object], dtype=object), "refused, it holds an array of object"),
        (np.zeros(2, [("a", "f8")]), "refused, it holds an array of "),
        (np.ndarray, "refused, it holds a type"),
        (np.dtype("f8"), "refused, it holds a Dtype"),
        (1j, "refused, it names "),
        (3, "holds a int, expected a list of trials or a configuration"),
        ([3], "entry 0: expected a dictionary whose 'config' maps layers to options"),
        (
            [{"config": CONFIG}, {"avg_bits": 4.0}],
            "entry 1: expected a dictionary whose 'config' maps layers to options",
        ),
        (
            [{"config": {"model.a.weight_quantizer": ["kmean-4"]}}],
            "entry 0: layer 'a': no method of the reference: 'kmean-4'; did you mean 'kmeans'?",
        ),
        ([{"config": {"a": ["mse-17"]}}], "entry 0: layer 'a': width 17 of 'uaq-17' is outside 1 to 8"),
        ([{"config": {"a": [4]}}], "entry 0: layer 'a': no method of the reference: ''"),
        (
            [{"config": {"model.a.weight_quantizer": "mse-4", "a": "mse-3"}}],
            "entry 0: layer 'a' is there twice",
        ),
        ([{"config": {"a": "mse-4"}, "FID-GT-1k": float("nan")}], "FID-GT-1k is nan, expected a finite number"),
    ],
)
def test_what_is_no_cache_is_one_line(tmp_path: Path, value: object, message: str) -> None:
    path = written(tmp_path / "quant_cache.pkl", value)
    with pytest.raises(TrialError) as error:
        read_legacy(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_claims_to_be_huge_is_read_at_once(tmp_path: Path) -> None:
    shared: list[object] = []
    for _ in range(60):
        shared = [shared, shared]
    read_pickle(written(tmp_path / "shared.pkl", shared))
    empty = pickle.dumps(np.zeros((1000, 0)), protocol=4).replace(b"M\xe8\x03", b"J\xff\xff\xff\x7f", 1)
    (tmp_path / "empty.pkl").write_bytes(empty)
    assert read_pickle(tmp_path / "empty.pkl") == []


def test_any_damage_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "quant_cache.pkl"
    whole = pickletools.optimize(pickle.dumps([{"config": CONFIG, "avg_bits": np.float64(4)}], protocol=4))
    dice = random.Random(0)
    for turn in range(400):
        damaged = bytearray(whole if turn % 2 else whole[: dice.randrange(len(whole))])
        for _ in range(turn % 4):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_legacy(path)
        except TrialError as error:
            said = str(error)
        else:
            continue
        assert said.startswith(f"{path}:")
        assert "\n" not in said
    with pytest.raises(TrialError, match=r"gone\.pkl: cannot be read: "):
        read_legacy(tmp_path / "gone.pkl")
