"""What the comparison with other methods counts, without any of them: bits kept, the choice of details, resuming."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from q2.quant import Option, builtin_quantizer, fit
from q2.quant.bank import BankPlan, LayerPlan, build
from q2.quant.packed.packing import pack

bits: Any = importlib.import_module("benchmarks.peers.bits")
measure: Any = importlib.import_module("benchmarks.peers.measure")
own: Any = importlib.import_module("benchmarks.peers.own")
entry: Any = importlib.import_module("benchmarks.peers.__main__")


def layer(*shape: int) -> Any:
    return bits.Layer("a", "Linear", torch.arange(float(torch.Size(shape).numel())).reshape(shape))


def test_bits_are_counted_from_all_tensors_that_are_kept() -> None:
    first, second = layer(8, 16), layer(4, 4)
    codes, scales = torch.zeros(8, 8, dtype=torch.uint8), torch.zeros(8, 2, dtype=torch.float16)
    zeros, factor = torch.zeros(8, 2, dtype=torch.int8), torch.zeros(8, 1, dtype=torch.float32)
    kept = bits.Kept(first.weight, codes, (scales, zeros, factor), 4)
    assert kept.bits == 64 * 8 + 16 * 16 + 16 * 8 + 8 * 32
    assert bits.average_bits([(first, kept), (second, None)]) == (kept.bits + 16 * 16) / (128 + 16)


def test_codes_that_are_not_packed_are_counted_as_they_are_kept_and_as_they_might_be() -> None:
    one = layer(8, 16)
    kept = bits.Kept(one.weight, torch.zeros(8, 16, dtype=torch.int8), (torch.zeros(8, dtype=torch.float16),), 3)
    assert bits.average_bits([(one, kept)]) == 8 + 1
    assert bits.average_bits([(one, kept)], packed=True) == 3 + 1


def test_own_options_count_what_q2_says_that_they_take() -> None:
    generator = torch.Generator().manual_seed(0)
    one = bits.Layer("a", "Linear", torch.randn(16, 24, generator=generator))
    for setting in own.settings():
        kept, fitted = setting.quantize(one), fit(one.weight, f"{setting.method.removeprefix('q2 ')}-{setting.bits}")
        assert kept.bits == fitted.bits_held == fitted.bits
        assert torch.equal(kept.weight, fitted.dequantize())


def test_a_bank_puts_the_parts_of_a_layer_together_and_is_of_one_denoiser(tmp_path: Path) -> None:
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    split = LayerPlan((8, 12), {"a:0": (0, 4), "a:1": (4, 12)})
    plan = BankPlan("digits-dit", "ab12", "float32", 16, ("kmeans-c-2",), {"a": split})
    build(tmp_path, plan, lambda _: weight, builtin_quantizer)
    about, (setting,) = own.bank_settings(tmp_path, "digits-dit")
    kept = setting.quantize(bits.Layer("a", "Linear", weight))
    parts = [fit(weight[:, :4], "kmeans-c-2"), fit(weight[:, 4:], "kmeans-c-2")]
    assert about == f"bank {plan.fingerprint}"
    assert kept.bits == sum(part.bits for part in parts)
    assert torch.equal(kept.weight, torch.cat([part.dequantize() for part in parts], 1))
    assert setting.quantize(bits.Layer("b", "Linear", weight)) is None
    with pytest.raises(ValueError, match="a bank of digits-dit, not of digits-sdxl"):
        own.bank_settings(tmp_path, "digits-sdxl")


def test_codes_that_a_bank_keeps_are_counted_and_are_what_the_weight_is_made_of() -> None:
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    plain = fit(weight, "kmeans-c-3")
    codes = (plain.codes() + 1) % 8
    fitted = replace(plain.without_weight(), packed_codes=pack(codes, 3))
    plan = SimpleNamespace(layers={"a": LayerPlan((8, 12), {"a": None})})
    bank = SimpleNamespace(plan=plan, fitted=lambda choice, option: fitted)
    kept = own._restore(bank, Option("kmeans-c", 3), bits.Layer("a", "Linear", weight))
    assert kept.bits == plain.bits
    assert torch.equal(kept.weight, plain.quantizer.decode(codes, plain.parameters).float())


def test_a_bit_counts_for_six_decibels_in_the_choice_of_details() -> None:
    assert bits.score(20.0, 4.0) == pytest.approx(bits.score(26.02, 5.0))
    rows = [
        {"latent_sqnr": 18.0, "avg_bits": 4.5},
        {"latent_sqnr": 22.0, "avg_bits": 5.0},
        {"latent_sqnr": None, "avg_bits": 2.0},
    ]
    assert max(rows, key=measure._score) is rows[1]


def test_rows_are_read_again_and_a_line_that_was_cut_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "digits-dit.jsonl"
    results = measure.Results(path)
    results.add({"method": "HQQ", "bits": 4})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"method": "HQQ", "bi')
    again = measure.Results(path)
    assert again.find({"method": "HQQ", "bits": 4}) == {"method": "HQQ", "bits": 4}
    again.add({"method": "HQQ", "bits": 3})
    assert [json.loads(line)["bits"] for line in path.read_text(encoding="utf-8").splitlines()] == [4, 3]


def test_what_is_not_installed_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entry, "find_spec", lambda name: None)
    found = list(entry.available(["SDNQ", "GGUF", "q2"], None, "", "digits-dit"))
    assert [len(settings) for _, settings in found] == [15]
    assert capsys.readouterr().out.splitlines() == [
        "SDNQ is passed over: pip install sdnq",
        "GGUF is passed over: pip install gguf",
        "calibrated is passed over: give a bank's folder with --bank",
    ]
