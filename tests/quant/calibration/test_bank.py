"""A calibrated bank: what is read is what was fitted, of the size that was said; plain banks stay what they were."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from q2.errors import BankError, CalibrationError
from q2.quant import Option, builtin_quantizer
from q2.quant.bank import Bank, build
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.problem import Problem
from tests.quant.strategies import noise
from tests.quant.test_bank import PLAN, WEIGHTS, contents, make

CALIBRATED = replace(PLAN, calibration="rows1")
ROWS = {"first": noise(64, 20, seed=5), "split": noise(64, 108, seed=6), "last": noise(64, 3, seed=7)}


def problem(layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
    return Problem(weight.flatten(1).float(), pieces(ROWS[layer], weight.shape, 0.25, channels))


def test_what_is_read_is_what_was_fitted_and_the_plan_says_how_large_it_is(tmp_path: Path) -> None:
    assert build(tmp_path, CALIBRATED, WEIGHTS.__getitem__, builtin_quantizer, problems=problem) == 3
    bank = Bank.open(tmp_path, builtin_quantizer)
    assert bank.plan == CALIBRATED
    for layer, plan in CALIBRATED.layers.items():
        for choice, channels in plan.choices.items():
            part = WEIGHTS[layer] if channels is None else WEIGHTS[layer][:, slice(*channels)]
            for text in CALIBRATED.options:
                option = Option.parse(text)
                found = bank.fitted(choice, option)
                (fresh,) = fit_outputs(
                    part, builtin_quantizer(option.quantizer), [option.bits], problem(layer, channels, part)
                )
                assert found is not None
                assert (found.outputs, found.errors) == (fresh.outputs, fresh.errors)
                assert torch.equal(found.restore(part), fresh.restore(part))
    held = sum(t.nbytes for file in tmp_path.glob("*.safetensors") for t in load_file(file).values())
    assert held == CALIBRATED.bytes(builtin_quantizer)


def test_a_bank_grows_to_the_same_bytes_as_at_once(tmp_path: Path) -> None:
    for folder, plans in {
        "whole": [CALIBRATED],
        "grown": [replace(CALIBRATED, options=PLAN.options[:2]), CALIBRATED],
    }.items():
        for plan in plans:
            build(tmp_path / folder, plan, WEIGHTS.__getitem__, builtin_quantizer, problems=problem)
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_plain_banks_are_what_they_were_and_neither_kind_grows_into_the_other(tmp_path: Path) -> None:
    make(tmp_path)
    assert "calibration" not in json.loads((tmp_path / "index.json").read_text())
    assert PLAN.bytes(builtin_quantizer) == sum(
        t.nbytes for file in tmp_path.glob("*.safetensors") for t in load_file(file).values()
    )
    with pytest.raises(BankError, match=r"is a bank for other settings \(calibration rows1, not none\)"):
        build(tmp_path, CALIBRATED, WEIGHTS.__getitem__, builtin_quantizer, problems=problem)


def test_a_layer_that_never_ran_is_named(tmp_path: Path) -> None:
    def never(layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
        raise CalibrationError("has no rows: it never ran")

    with pytest.raises(BankError, match=r"^layer 'first': has no rows: it never ran$"):
        build(tmp_path, CALIBRATED, WEIGHTS.__getitem__, builtin_quantizer, problems=never)
