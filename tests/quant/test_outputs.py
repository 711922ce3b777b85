"""Output errors of a plain bank: what outputs really lose, kept beside it, gone on with, remade for other rows."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from q2.errors import BankError, CalibrationError
from q2.quant import Option, builtin_quantizer
from q2.quant.bank import Bank, build
from q2.quant.calibration.problem import Problem
from q2.quant.outputs import measure_outputs
from tests.quant.calibration.test_bank import CALIBRATED, ROWS, problem
from tests.quant.test_bank import PLAN, WEIGHTS, make


def measured(folder: Path, rows: str = "rows1") -> int:
    bank = Bank.open(folder, builtin_quantizer)
    return measure_outputs(bank, WEIGHTS.__getitem__, problem, rows)


def test_they_are_what_the_outputs_lose_and_what_a_calibrated_bank_calls_plain(tmp_path: Path) -> None:
    make(tmp_path / "plain")
    assert measured(tmp_path / "plain") == 3
    build(tmp_path / "calibrated", CALIBRATED, WEIGHTS.__getitem__, builtin_quantizer, problems=problem)
    plain, calibrated = (Bank.open(tmp_path / name, builtin_quantizer) for name in ("plain", "calibrated"))
    assert plain.rows == calibrated.rows == "rows1"
    for choice in (choice for layer in PLAN.layers.values() for choice in layer.choices):
        for option in map(Option.parse, PLAN.options):
            one, other = plain.fitted(choice, option), calibrated.fitted(choice, option)
            assert one is not None
            assert other is not None
            assert one.packed_codes is None
            assert one.outputs is not None
            assert other.outputs is not None
            assert one.outputs.error == one.outputs.plain == pytest.approx(other.outputs.plain, rel=1e-9)
            assert one.outputs.signal == pytest.approx(other.outputs.signal, rel=1e-12)
    fitted = plain.fitted("first", Option.parse(PLAN.options[0]))
    assert fitted is not None
    assert fitted.outputs is not None
    lost = ROWS["first"] @ (WEIGHTS["first"] - fitted.restore(WEIGHTS["first"])).flatten(1).float().T
    assert fitted.outputs.error == pytest.approx(0.25 * float(lost.square().sum()), rel=1e-3)


def test_what_is_there_stays_other_rows_replace_it_and_a_bank_that_grew_is_measured_again(tmp_path: Path) -> None:
    build(tmp_path, replace(PLAN, options=PLAN.options[:2]), WEIGHTS.__getitem__, builtin_quantizer)
    assert (measured(tmp_path), measured(tmp_path)) == (3, 0)
    before = (tmp_path / "outputs.json").read_bytes()
    make(tmp_path)
    assert Bank.open(tmp_path, builtin_quantizer).rows == ""
    assert measured(tmp_path) == 3
    assert Bank.open(tmp_path, builtin_quantizer).rows == "rows1"
    assert (tmp_path / "outputs.json").read_bytes() != before
    assert measured(tmp_path, "rows2") == 3
    assert Bank.open(tmp_path, builtin_quantizer).rows == "rows2"


def test_one_that_is_stopped_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    for name in ("half", "whole"):
        make(tmp_path / name)
    bank, asked = Bank.open(tmp_path / "half", builtin_quantizer), []

    def stops(layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
        if layer == "last":
            raise KeyboardInterrupt
        asked.append(layer)
        return problem(layer, channels, weight)

    with pytest.raises(KeyboardInterrupt):
        measure_outputs(bank, WEIGHTS.__getitem__, stops, "rows1")
    assert asked[0] == "first"
    assert Bank.open(tmp_path / "half", builtin_quantizer).rows == ""
    assert measured(tmp_path / "half") == 1
    measured(tmp_path / "whole")
    assert (tmp_path / "half" / "outputs.json").read_bytes() == (tmp_path / "whole" / "outputs.json").read_bytes()


def test_damage_another_bank_and_a_layer_that_never_ran_are_one_line(tmp_path: Path) -> None:
    make(tmp_path)
    measured(tmp_path)
    table = json.loads((tmp_path / "outputs.json").read_text())
    for text in ("{", json.dumps(table | {"bank": "0" * 16}), json.dumps(table | {"choices": {"first": [1.0]}})):
        (tmp_path / "outputs.json").write_text(text)
        with pytest.raises(BankError, match=r"outputs.json: cannot be read \(.*\); remove it, and q2 bank measures it"):
            _ = Bank.open(tmp_path, builtin_quantizer).rows
        (tmp_path / "outputs.json").unlink()
        assert measured(tmp_path) == 3

    def never(layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
        raise CalibrationError("has no rows: it never ran")

    (tmp_path / "outputs.json").unlink()
    with pytest.raises(BankError, match=r"^layer 'first': has no rows: it never ran$"):
        measure_outputs(Bank.open(tmp_path, builtin_quantizer), WEIGHTS.__getitem__, never, "rows1")


def test_an_option_that_overflows_has_an_infinite_output_error(tmp_path: Path) -> None:
    make(tmp_path)

    def overflowing(layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
        found = problem(layer, channels, weight)
        found.errors = lambda values: torch.tensor([torch.inf])  # type: ignore[method-assign]
        return found

    measure_outputs(Bank.open(tmp_path, builtin_quantizer), WEIGHTS.__getitem__, overflowing, "rows1")
    bank = Bank.open(tmp_path, builtin_quantizer)
    fitted = bank.fitted("first", Option.parse(PLAN.options[0]))
    assert bank.rows == "rows1"
    assert fitted is not None
    assert fitted.outputs is not None
    assert fitted.outputs.error == float("inf")
