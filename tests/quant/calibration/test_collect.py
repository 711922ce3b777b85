"""Rows are collected by hooks, kept on disk, and gone on with; what is wrong is one line."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from q2.errors import CalibrationError
from q2.quant.calibration.collect import collect, groups_of, is_collected
from q2.quant.calibration.rows import RowPlan, RowStore, packed, unpacked
from q2.quant.calibration.unfolding import Unfolding


class Toy(nn.Module):
    """Attention's projections over one tensor, a convolution of it, two experts, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.o = nn.Linear(6, 4), nn.Linear(6, 8), nn.Linear(4, 6)
        self.conv = nn.Conv1d(6, 2, 3, padding=1, padding_mode="reflect")
        self.experts = nn.ModuleList([nn.Linear(6, 2), nn.Linear(6, 2)])
        self.idle = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.conv(x.transpose(1, 2))
        second = x[..., 0] > 0
        self.experts[0](x[~second])
        self.experts[1](x[second])
        self.k(input=x)
        return torch.as_tensor(self.o(self.q(x)))


torch.manual_seed(0)
MODEL = Toy().eval()
LAYERS = {
    "conv": "conv",
    "experts.0": "experts.0",
    "experts.1": "experts.1",
    "k": "k",
    "q": "k",
    "o": "o",
    "idle": "idle",
}
PLAN = RowPlan("toy", "ab12", "float32", 5, 3, 10_000, 7, 2, "", "", LAYERS)


def inputs(images: range, step: int) -> Tensor:
    generators = [torch.Generator().manual_seed(100 * image + step) for image in images]
    return torch.stack([torch.randn(9, 6, generator=generator) for generator in generators])


class Draw:
    """Denoises in three steps; remembers which images, and may stop at one."""

    def __init__(self, stop: int = 99, change: Callable[[Tensor, int], Tensor] = lambda x, step: x) -> None:
        self.images: list[range] = []
        self.stop, self.change = stop, change

    def __call__(self, images: range) -> None:
        self.images.append(images)
        for step in range(3):
            if step == 1 and self.stop in images:
                raise KeyboardInterrupt
            MODEL(self.change(inputs(images, step), step))


def make(folder: Path, plan: RowPlan = PLAN, draw: Draw | None = None) -> int:
    return collect(folder, plan, MODEL, draw or Draw())


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def went_by(images: int = 5, batch: int = 2) -> list[Tensor]:
    starts = range(0, images, batch)
    return [inputs(range(i, min(i + batch, images)), step) for i in starts for step in range(3)]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=2**-10, atol=0)


def test_where_all_rows_are_kept_they_are_those_of_the_layers_inputs(tmp_path: Path) -> None:
    assert make(tmp_path) == 5
    store = RowStore.open(tmp_path)
    x = torch.cat([each.reshape(-1, 6) for each in went_by()])
    second = x[:, 0] > 0
    conv = [Unfolding.of(MODEL.conv).take(each.mT, torch.arange(9 * len(each))) for each in went_by()]
    outputs = torch.cat([MODEL.q(each).reshape(-1, 4) for each in went_by()]).detach()
    expected = {"q": x, "k": x, "o": outputs, "experts.0": x[~second], "experts.1": x[second], "conv": torch.cat(conv)}
    for layer, values in expected.items():
        rows = store.rows(layer)
        assert rows is not None
        close(rows.values, values)
        assert rows.values.dtype == torch.float32
        assert (rows.seen, rows.images) == (len(values), 5)
    assert store.rows("idle") is None
    assert store.layers == tuple(LAYERS)


def test_layers_that_read_one_tensor_share_files(tmp_path: Path) -> None:
    make(tmp_path)
    groups = {path.name.rsplit(".", 2)[0] for path in tmp_path.glob("*.safetensors")}
    assert groups == {"conv", "experts.0", "experts.1", "k", "o"}
    assert RowStore.open(tmp_path).group("q") == "k"
    modules = {name: MODEL.get_submodule(name) for name in ("k", "q", "o", "conv")}
    assert groups_of(modules, dict.fromkeys(modules, "k")) == {"k": "k", "q": "k", "o": "o", "conv": "conv"}


def test_a_sample_has_a_share_from_every_batch_and_is_the_same_again(tmp_path: Path) -> None:
    plan = replace(PLAN, rows=25)
    for name in "ab":
        make(tmp_path / name, plan)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    store, x = RowStore.open(tmp_path / "a"), torch.cat([each.reshape(-1, 6) for each in went_by()])
    rows = store.rows("q")
    assert rows is not None
    assert rows.values.shape == (25, 6)
    assert rows.seen == len(x) == 135
    places = torch.cdist(rows.values, x).argmin(1)
    close(rows.values, x[places])
    assert torch.equal(places, places.unique())
    assert torch.histc(places.float(), 5, 0, 135).tolist()[4] == 5  # of the last image, which is a batch alone
    make(tmp_path / "c", replace(plan, seed=8))
    other = RowStore.open(tmp_path / "c").rows("q")
    assert other is not None
    assert not torch.equal(other.values, rows.values)


def test_a_run_that_is_stopped_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    make(tmp_path / "once")
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "half", draw=Draw(stop=3))
    with pytest.raises(CalibrationError, match="half: lacks 2 of 3 batches; q2 calibrate goes on"):
        RowStore.open(tmp_path / "half")
    (tmp_path / "half" / ".k-x1.safetensors").write_bytes(b"left behind by kill -9")
    rest = Draw()
    assert not is_collected(tmp_path / "half", PLAN)
    assert make(tmp_path / "half", draw=rest) == 3
    assert rest.images == [range(2, 4), range(4, 5)]
    assert is_collected(tmp_path / "half", PLAN)
    assert contents(tmp_path / "half") == contents(tmp_path / "once")
    assert make(tmp_path / "half") == 0


def test_a_batch_with_a_damaged_file_alone_is_drawn_again(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "k.001.safetensors").write_bytes(before["k.001.safetensors"][:-8])
    with pytest.raises(CalibrationError, match="lacks 1 of 3 batches"):
        RowStore.open(tmp_path)
    again = Draw()
    assert make(tmp_path, draw=again) == 2
    assert again.images == [range(2, 4)]
    assert contents(tmp_path) == before


def test_a_full_disk_loses_nothing_that_was_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name.startswith(".k.001"):
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    line = r"cannot be written: No space left on device; what is complete stays, q2 calibrate goes on from there$"
    with pytest.raises(CalibrationError, match=line):
        make(tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*"))
    assert make(tmp_path) == 3
    with pytest.raises(CalibrationError, match="cannot be written: Not a directory"):
        make(tmp_path / "k.000.safetensors" / "below")


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_what_is_not_finite_names_layer_and_step(tmp_path: Path, bad: float) -> None:
    def change(x: Tensor, step: int) -> Tensor:
        return x.index_fill(1, torch.tensor(8), bad) if step == 1 else x

    line = "layer 'conv': its input holds NaN or infinity in denoising step 2 of images 0 to 1"
    with pytest.raises(CalibrationError, match=line):
        make(tmp_path, draw=Draw(change=change))
    assert not any(module._forward_pre_hooks for module in MODEL.modules())


def test_a_layer_that_reads_another_tensor_than_its_group_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="layer 'o' reads another tensor than 'k', unlike in the graph"):
        make(tmp_path, replace(PLAN, layers={"k": "k", "o": "k"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights": "cd34"}, "weights cd34, not ab12"),
        ({"denoiser": "other"}, "denoiser other, not toy"),
        ({"seed": 8}, "seed 8, not 7"),
        ({"images": 6}, "images 6, not 5"),
        ({"prompts": "ef56"}, "other prompts"),
        ({"layers": {"q": "q"}}, "other layers"),
    ],
)
def test_rows_of_something_else_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    other = replace(PLAN, **change)  # type: ignore[arg-type]
    for check in (make, is_collected):
        with pytest.raises(CalibrationError) as found:
            check(tmp_path, other)
        assert str(found.value) == (
            f"{tmp_path}: has rows for other settings ({words}); choose another folder, or remove it"
        )
    assert contents(tmp_path) == before


def test_what_holds_no_rows_or_is_damaged_is_one_line(tmp_path: Path) -> None:
    def opened() -> str:
        with pytest.raises(CalibrationError) as caught:
            RowStore.open(tmp_path).rows("q")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "has no rows: index.json cannot be read (No such file or directory)" in opened()
    make(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    changes: list[tuple[dict[str, object], str]] = [
        ({"q2": "bank"}, "has no rows: index.json cannot be read (it is something else)"),
        ({"version": 9}, "has rows of another version of q2; remove it and collect them anew"),
        ({"seen": {}}, "its groups are not those of its layers"),
        ({"colour": 1}, "has no rows: index.json cannot be read"),
    ]
    for change, message in changes:
        (tmp_path / "index.json").write_text(json.dumps(index | change))
        assert message in opened()
    (tmp_path / "index.json").write_text("[]")
    assert "has no rows" in opened()
    (tmp_path / "index.json").write_text(json.dumps(index))
    store = RowStore.open(tmp_path)
    with pytest.raises(CalibrationError, match=r"no layer 'experts\.2'; did you mean 'experts\.1'"):
        store.rows("experts.2")
    (tmp_path / "k.001.safetensors").write_bytes((tmp_path / "o.001.safetensors").read_bytes())
    with pytest.raises(CalibrationError, match=r"k\.001\.safetensors: belongs to other rows"):
        store.rows("q")
    (tmp_path / "k.001.safetensors").unlink()
    with pytest.raises(CalibrationError, match=r"k\.001\.safetensors: is gone, truncated or damaged"):
        store.rows("q")


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 65504.0, 3e38])
def test_nothing_overflows_or_is_flushed(scale: float) -> None:
    values = torch.tensor([[1.0, -0.37, 2.0**-28, 0.0]]) * scale
    half, exponent = packed(values)
    assert half.isfinite().all()
    torch.testing.assert_close(unpacked(half, exponent), values, rtol=2**-11, atol=0)
    assert packed(torch.zeros(2, 3))[1] == 0


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that is made."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.largest = max(self.largest, out.numel())
        return out


def test_no_map_is_unfolded_as_a_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 4, 3, padding=1))
    plan = replace(PLAN, layers={"0": "0"}, rows=100, images=2, batch=1)
    maps = torch.randn(1, 32, 64, 64)
    with Largest() as watched:  # type: ignore[no-untyped-call]
        collect(tmp_path, plan, model, lambda images: model(maps))
    rows = RowStore.open(tmp_path).rows("0")
    assert rows is not None
    assert (rows.values.shape, rows.seen) == ((100, 288), 2 * 64 * 64)
    assert watched.largest == maps.numel()
