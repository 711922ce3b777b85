"""The bank: what is read is what was fitted; a build that is stopped goes on; what does not belong is refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import Tensor

from q2.errors import BankError
from q2.quant import FittedWeight, Option, Quantizer, builtin_quantizer, fit
from q2.quant.bank import Bank, BankPlan, LayerPlan, build, options_in
from tests.quant.strategies import noise

WEIGHTS = {
    "first": noise(6, 20, dtype=torch.float16),
    "split": noise(5, 12, 3, 3, seed=1, dtype=torch.float16),
    "last": noise(1, 3, seed=2, dtype=torch.float16),
}
PLAN = BankPlan(
    denoiser="toy",
    weights="ab12",
    dtype="float16",
    prec=16,
    options=("kmeans-c-4", "uaq-3", "kmeans-a-2", "kmeans-c-3"),
    layers={
        "first": LayerPlan((6, 20), {"first": None}),
        "split": LayerPlan((5, 12, 3, 3), {"split": (0, 8), "split#1": (8, 12)}),
        "last": LayerPlan((1, 3), {"last": None}),
    },
)
SIX = ("kmeans-c-4", "kmeans-a-4", "uaq-4", "kmeans-c-3", "kmeans-a-3", "uaq-3")


def make(folder: Path, plan: BankPlan = PLAN, read: Callable[[str], Tensor] = WEIGHTS.__getitem__) -> int:
    return build(folder, plan, read, builtin_quantizer)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_what_is_read_is_what_was_fitted(tmp_path: Path) -> None:
    assert make(tmp_path) == 3
    bank = Bank.open(tmp_path, builtin_quantizer)
    assert bank.plan == PLAN
    for layer, plan in PLAN.layers.items():
        for choice, channels in plan.choices.items():
            part = WEIGHTS[layer] if channels is None else WEIGHTS[layer][:, slice(*channels)]
            for option in PLAN.options:
                fitted, fresh = bank.fitted(choice, Option.parse(option)), fit(part, option)
                assert fitted is not None
                assert fitted.errors == fresh.errors == bank.errors(choice)[option]
                assert (fitted.bits, fitted.shape) == (fresh.bits, part.shape)
                assert torch.equal(fitted.restore(part), fresh.dequantize())
    assert bank.fitted("first", Option.parse("uaq-8")) is None


def test_a_build_that_was_stopped_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    make(tmp_path / "whole")
    reads = []

    def interrupted(layer: str) -> Tensor:
        reads.append(layer)
        if len(reads) == 2:
            raise KeyboardInterrupt
        return WEIGHTS[layer]

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "half", read=interrupted)
    (tmp_path / "half" / ".split-x1.safetensors").write_bytes(b"left behind by kill -9")
    with pytest.raises(BankError, match=r"half: 2 of 3 layers are not built; q2 bank resumes it$"):
        Bank.open(tmp_path / "half", builtin_quantizer)
    assert make(tmp_path / "half") == 2
    assert contents(tmp_path / "half") == contents(tmp_path / "whole")
    assert make(tmp_path / "half") == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "cd34"}, "weights cd34, not ab12"),
        ({"prec": 32}, "prec 32, not 16"),
        ({"layers": {}}, "other layers"),
    ],
)
def test_a_bank_for_something_else_is_not_built_over(tmp_path: Path, change: dict[str, object], message: str) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(BankError, match="is a bank for other settings") as caught:
        make(tmp_path, replace(PLAN, **change))  # type: ignore[arg-type]
    assert PLAN.differs(replace(PLAN, **change)) == message  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


def test_a_bank_grows_to_what_it_would_be_if_fitted_at_once(tmp_path: Path) -> None:
    make(tmp_path / "once")
    assert make(tmp_path / "grown", replace(PLAN, options=PLAN.options[:2])) == 3
    assert make(tmp_path / "grown", replace(PLAN, options=PLAN.options[2:])) == 3
    assert contents(tmp_path / "grown") == contents(tmp_path / "once")


def test_a_bank_with_more_options_than_asked_serves(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    assert make(tmp_path, replace(PLAN, options=("kmeans-c-3", "uaq-3"))) == 0
    assert contents(tmp_path) == before
    assert options_in(tmp_path) == PLAN.options


def test_only_options_that_are_missing_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, replace(PLAN, options=("kmeans-c-4", "uaq-3")))
    fits: list[tuple[str, Sequence[int]]] = []
    original = Quantizer.fit_each

    def counted(quantizer: Quantizer, weight: Tensor, widths: Sequence[int], prec: int = 16) -> list[FittedWeight]:
        fits.append((quantizer.name, widths))
        return original(quantizer, weight, widths, prec)

    monkeypatch.setattr(Quantizer, "fit_each", counted)
    make(tmp_path, replace(PLAN, options=("uaq-3", "kmeans-c-2", "kmeans-c-4")))
    assert fits == [("kmeans-c", [2])] * 4


class Stop:
    """Reads weights until it is asked for one too many, as if the process were killed there."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, layer: str) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return WEIGHTS[layer]


def test_a_bank_that_is_stopped_while_it_grows_has_what_it_had_and_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "once")
    few = replace(PLAN, options=PLAN.options[:2])
    make(tmp_path / "grown", few)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "grown", read=Stop(1))
    bank = Bank.open(tmp_path / "grown", builtin_quantizer)
    assert bank.plan == few
    assert options_in(tmp_path / "grown") == few.options
    for layer in PLAN.layers:
        assert set(bank.errors(layer)) == set(few.options)
    assert make(tmp_path / "grown", few) == 0
    assert make(tmp_path / "grown") == 2
    assert contents(tmp_path / "grown") == contents(tmp_path / "once")


def test_an_option_that_was_given_up_half_way_is_neither_lost_nor_finished(tmp_path: Path) -> None:
    few = replace(PLAN, options=("uaq-3",))
    make(tmp_path, few)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, replace(PLAN, options=("kmeans-a-2",)), Stop(1))
    assert make(tmp_path, replace(PLAN, options=("kmeans-c-3",))) == 3
    assert options_in(tmp_path) == ("uaq-3", "kmeans-c-3")
    assert make(tmp_path, replace(PLAN, options=("kmeans-a-2",))) == 2
    assert options_in(tmp_path) == ("uaq-3", "kmeans-a-2", "kmeans-c-3")


def test_a_damaged_layer_gets_all_options_again(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "first.safetensors").write_bytes(before["first.safetensors"][:-8])
    assert options_in(tmp_path) == ()
    assert make(tmp_path, replace(PLAN, options=("uaq-3",))) == 1
    assert contents(tmp_path) == before


def test_a_bank_that_is_open_reads_on_while_it_grows(tmp_path: Path) -> None:
    make(tmp_path, replace(PLAN, options=("uaq-3",)))
    bank = Bank.open(tmp_path, builtin_quantizer)
    make(tmp_path)
    assert list(bank.errors("first")) == ["uaq-3"]


def test_two_builds_in_a_folder_come_one_after_the_other(tmp_path: Path) -> None:
    builds = [Thread(target=make, args=(tmp_path, replace(PLAN, options=(option,)))) for option in PLAN.options]
    for thread in builds:
        thread.start()
    for thread in builds:
        thread.join()
    assert set(options_in(tmp_path)) == set(PLAN.options)


def test_other_files_of_a_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine")
    (tmp_path / ".first-x1.safetensors").write_bytes(b"left behind by kill -9")
    assert options_in(tmp_path) == ()
    make(tmp_path)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".gitignore"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(BankError, match="other: is no bank"):
        options_in(tmp_path / "other")


def test_bad_weights_name_the_layer_and_nothing_complete_is_lost(tmp_path: Path) -> None:
    bad = WEIGHTS | {"split": WEIGHTS["split"].clone().index_fill_(0, torch.tensor(2), float("nan"))}
    with pytest.raises(BankError, match=r"^layer 'split': a weight of shape .* holds 108 values that are NaN or infin"):
        make(tmp_path, read=bad.__getitem__)
    empty = WEIGHTS | {"split": torch.empty(0, 12, 3, 3)}
    with pytest.raises(BankError, match=r"^layer 'split': a weight of shape \(0, 12, 3, 3\) cannot be quantized"):
        make(tmp_path, read=empty.__getitem__)
    assert make(tmp_path) == 2


def test_a_full_disk_loses_nothing_that_was_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.startswith(".split"):
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BankError, match=r"cannot be written: No space left on device; what is complete stays"):
        make(tmp_path)
    monkeypatch.undo()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.safetensors", "index.json"]
    assert make(tmp_path) == 2


def test_what_is_no_bank_or_damaged_is_one_line(tmp_path: Path) -> None:
    def opened() -> str:
        with pytest.raises(BankError) as caught:
            Bank.open(tmp_path, builtin_quantizer).errors("first")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "is no bank: index.json cannot be read" in opened()
    make(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    for change, message in (({"q2": "recipe"}, "it is something else"), ({"version": 9}, "another version of q2")):
        (tmp_path / "index.json").write_text(json.dumps(index | change))
        assert message in opened()
    (tmp_path / "index.json").write_text("[]")
    assert "is no bank" in opened()
    (tmp_path / "index.json").write_text(json.dumps(index))
    whole = (tmp_path / "first.safetensors").read_bytes()
    (tmp_path / "first.safetensors").write_bytes((tmp_path / "last.safetensors").read_bytes())
    assert opened().endswith("first.safetensors: belongs to another bank")
    (tmp_path / "first.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "first.safetensors: is truncated or damaged" in opened()
    assert make(tmp_path) == 1
    with pytest.raises(BankError, match="no layer 'frist'; did you mean 'first'"):
        Bank.open(tmp_path, builtin_quantizer).fitted("frist", Option.parse("uaq-3"))


def test_codes_are_not_stored(tmp_path: Path) -> None:
    weight = noise(64, 4096, dtype=torch.float16)
    plan = replace(PLAN, layers={"big": LayerPlan((64, 4096), {"big": None})}, options=SIX)
    build(tmp_path, plan, lambda _: weight, builtin_quantizer)
    assert Bank.open(tmp_path, builtin_quantizer).bytes < 0.05 * weight.nbytes


def banks_options() -> tuple[str, ...]:
    return ("kmeans-c-4", "kmeans-a-4", "uaq-4", "kmeans-c-3", "kmeans-a-3", "uaq-3")
