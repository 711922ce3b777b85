"""`q2 calibrate` and its rows: real denoisers, killed and resumed, found again, refused where they do not fit."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import q2
from q2.cli import main
from q2.config import RunFile
from q2.errors import ConfigError
from q2.graph.sharing import readers
from q2.passes import Step
from q2.quant.calibration.rows import RowStore
from q2.session.calibrate import calibrate, check_rows, find_rows, rows_folder
from q2.session.plan import plan_search
from q2.session.session import Session

FEW = ("calibration.images=3", "calibration.steps=2", "calibration.batch=2")


def session(*sets: str, config: str = "digits-dit.toml") -> Session:
    return Session(RunFile.load(config, [*FEW, *sets]))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RowStore:
    return calibrate(session(), tmp_path_factory.mktemp("rows") / "digits").store


def read_by(name: str, layers: list[str], **options: object) -> dict[str, Tensor]:
    """Return what layers of a denoiser read while the three images are drawn, without a graph."""
    denoiser, read = q2.denoiser(name), dict[str, list[Tensor]]()

    def watch(layer: str) -> "object":
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            read.setdefault(layer, []).append(args[0])

        return hook

    for layer in layers:
        denoiser.model.get_submodule(layer).register_forward_pre_hook(watch(layer))  # type: ignore[arg-type]
    for first, count in ((0, 2), (2, 1)):
        denoiser.generate(count, first=first, seed=20_000, steps=2)
    return {layer: torch.cat([x.reshape(-1, x.shape[-1]) for x in tensors]) for layer, tensors in read.items()}


def test_the_rows_of_digits_dit_are_what_its_layers_read(digits: RowStore) -> None:
    names = ["transformer_blocks.0.attn1.to_q", "transformer_blocks.2.ff.net.2", "proj_out_2"]
    for layer, values in read_by("digits-dit", names).items():
        rows = digits.rows(layer)
        assert rows is not None
        torch.testing.assert_close(rows.values, values, rtol=2**-10, atol=1e-6)
        assert (rows.seen, rows.images) == (len(values), 3)
    patches = digits.rows("pos_embed.proj")
    assert patches is not None
    assert patches.values.shape[1] == 4 * 2 * 2
    assert len(digits.layers) == 39
    assert digits.group("transformer_blocks.0.attn1.to_v") == digits.group("transformer_blocks.0.attn1.to_q")
    for layer in digits.layers:
        rows = digits.rows(layer)
        assert rows is not None
        assert rows.values.isfinite().all()


def test_the_rows_of_digits_sdxl_fit_its_weights_and_all_prompts_share_keys(tmp_path: Path) -> None:
    report = calibrate(session("calibration.rows=40", config="digits-sdxl.toml"), tmp_path)
    store, model = report.store, q2.denoiser("digits-sdxl").model
    assert report.summary.startswith("175 layers, 132 different inputs; 3 images x 2 steps, 3 drawn now; ")
    groups = {store.group(layer) for layer in store.layers if layer.endswith(("attn2.to_k", "attn2.to_v"))}
    assert len(groups) == 1
    for layer in store.layers:
        rows = store.rows(layer)
        assert rows is not None
        assert rows.seen >= len(rows.values) > 0
        assert rows.values.shape[1] == model.get_submodule(layer).weight.flatten(1).shape[1]  # type: ignore[operator]

    kept = {layer: rows for layer in ("time_embedding.linear_1", "conv_in") if (rows := store.rows(layer))}
    assert {layer: (len(rows.values), rows.seen) for layer, rows in kept.items()} == {
        "time_embedding.linear_1": (6, 6),
        "conv_in": (40, 3 * 2 * 64),
    }


def test_prompts_are_drawn_and_classes_take_none(tmp_path: Path) -> None:
    sets = ("calibration.images=1", "calibration.rows=64")
    own = calibrate(session(*sets, config="digits-sdxl.toml"), tmp_path / "own").store
    asked = session(*sets, 'calibration.prompts=["a photo of the digit five"]', config="digits-sdxl.toml")
    rows = calibrate(asked, tmp_path / "asked").store.rows("conv_in")
    first = own.rows("conv_in")
    assert rows is not None
    assert first is not None
    assert not torch.equal(rows.values, first.values)
    with pytest.raises(
        ConfigError, match=r"--set calibration\.prompts: digits-dit draws classes, 0 to 9, and takes no"
    ):
        calibrate(session('calibration.prompts=["a cat"]'), tmp_path / "dit")
    assert not (tmp_path / "dit").exists()


def test_rows_are_found_or_drawn_on_demand(digits: RowStore, tmp_path: Path) -> None:
    shown: list[Step] = []
    user = session()
    user.show = shown.append
    assert find_rows(user, digits.folder).plan == digits.plan
    assert shown == []
    made = find_rows(user, tmp_path)
    assert [step.summary for step in shown] == [f"{tmp_path}: draws 3 images x 2 steps"]
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {
        file.name: file.read_bytes() for file in digits.folder.iterdir()
    }
    assert made.plan == digits.plan


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("calibration.rows=9",), "the rows do not fit (rows 9, not 4096)"),
        (("calibration.steps=3",), "the rows do not fit (steps 3, not 2)"),
        (("calibration.images=4",), "the rows do not fit (images 4, not 3)"),
        (("denoiser.dtype=float16",), "the rows do not fit (dtype float16, not float32)"),
        (("denoiser.name=dit", "denoiser.tiny=true"), "the rows do not fit (denoiser dit, not digits-dit)"),
    ],
)
def test_rows_of_other_settings_are_refused_by_the_index_alone(
    digits: RowStore, sets: tuple[str, ...], words: str
) -> None:
    path = f"calibration.path={digits.folder}"
    other = session(path, *sets)
    with pytest.raises(ConfigError) as found:
        check_rows(other, rows_folder(other))
    assert "denoiser" not in vars(other)
    assert str(found.value) == (
        f"digits-dit.toml, --set calibration.path: {digits.folder}: {words}; "
        "remove them, or name another folder: calibration.path"
    )


def test_rows_of_other_weights_are_refused_when_these_are_loaded(digits: RowStore) -> None:
    random = session("denoiser.weights=random")
    check_rows(random, digits.folder)
    for use in (find_rows, calibrate):
        with pytest.raises(
            ConfigError, match=r"has rows for other settings \(weights [0-9a-f]{16}, not [0-9a-f]{16}\)"
        ):
            use(random, digits.folder)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (("seed=20000",), "calibration.seed: 20000 is seed too: recipes would be measured with the images they were"),
        (("calibration.seed=0",), "--set calibration.seed: 0 is search.evaluation.seed too"),
        (("denoiser.weights=meta",), "denoiser.weights: 'meta' has no values to calibrate with"),
        (("calibration.images=0",), "calibration.images"),
        (("calibration.row=5",), "calibration.row: unknown key; did you mean 'rows'"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(sets: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as found:
        calibrate(session(*sets), tmp_path / "rows")
    assert words in str(found.value)
    assert "\n" not in str(found.value)
    assert not (tmp_path / "rows").exists()


def test_a_folder_that_cannot_be_is_said_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["q2", "calibrate", "--out", str(tmp_path / "file")])
    monkeypatch.setattr("q2.session.session.Session.load_pipeline", lambda _: pytest.fail("it was loaded"))
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"q2: --out {tmp_path}/file: {tmp_path}/file is a file, expected a folder\n"


def test_rows_are_beside_the_bank_or_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert rows_folder(session()) == Path("calibration/digits-dit")
    assert rows_folder(session(), Path("run")) == Path("run/calibration")
    assert rows_folder(session("calibration.path=mine"), Path("run")) == Path("mine")
    Path("calibration/digits-dit").mkdir(parents=True)
    assert rows_folder(session(), Path("run")) == Path("calibration/digits-dit")


def test_a_dry_run_says_time_and_size(digits: RowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*sets: str) -> str:
        return next(step.summary for step in plan_search(session(*sets)) if step.title == "calibration")

    line = said()
    assert line.startswith("not collected: 3 images x 2 steps ≥ ")
    size = float(line.rpartition(", ")[2].removesuffix(" MB at most"))
    values = sum(2 * rows.values.numel() for group in digits.plan.groups if (rows := digits.rows(group)))
    assert size == pytest.approx(values / 1e6, abs=0.06)
    assert said(f"calibration.path={digits.folder}") == f"{digits.folder}: there"
    assert said(f"calibration.path={digits.folder}", "calibration.rows=9") == (
        f"{digits.folder}: has rows for other settings (rows 9, not 4096); choose another folder, or remove it"
    )


def test_a_layer_that_reads_what_was_written_to_shares_nothing() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            x = x * 2
            first = self.q(x) + self.k(input=x)
            x.add_(1)
            return torch.as_tensor(first + self.v(x))

    found = readers(q2.trace(Written(), {"x": torch.ones(2, 4)}))
    assert found == {"q": "q", "k": "q", "v": "v"}
