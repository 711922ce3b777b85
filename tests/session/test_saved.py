"""A saved folder says what its denoiser is and what it was made from: it is drawn and compared without a run file."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from q2 import cli
from q2.denoisers import load
from q2.denoisers.saving.original import SavedFolder
from q2.session.transform import transform
from tests.denoisers.pipelines.all import PIPELINES
from tests.denoisers.pipelines.whole import session_of

FEW = ("--n", "2", "--steps", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders `pipeline` and, quantized, `saved`."""
    folder, tiny = tmp_path_factory.mktemp("saved"), PIPELINES["StableDiffusionPipeline"]
    session = session_of(tiny, tiny.save(folder / "pipeline"), **{"samples.images": 0})
    transform(session, None, packed=folder / "saved")
    return folder


def sampled(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr(sys, "argv", ["q2", "sample", *map(str, args), *FEW])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_folder_says_what_it_was_made_from(place: Path) -> None:
    found = SavedFolder.find(str(place / "saved"))
    assert found is not None
    assert (found.component, found.dtype, found.revision) == ("unet", "float32", "")
    assert found.denoiser == {"checkpoint": str(place / "pipeline")}
    assert found.fingerprint == load(checkpoint=str(place / "pipeline"), device="cpu").fingerprint
    assert SavedFolder.find(str(place / "pipeline")) is None


def test_compare_draws_full_precision_with_the_original(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sampled(monkeypatch, "--from", place / "saved", "--compare", "--out", tmp_path / "one") == 0
    facts = json.loads((tmp_path / "one" / "0001.json").read_text())
    assert facts["denoiser"]["name"] == "UNet2DConditionModel"
    assert 5 < facts["compared"]["PSNR dB"] < 60  # 100: the folder's own denoiser took both parts
    assert "mean PSNR dB" in capsys.readouterr().out


def moved(place: Path, to: Path) -> tuple[Path, Path]:
    """Return the original, away from its place, and a saved folder that names that place."""
    shutil.copytree(place / "saved", to / "saved")
    file = to / "saved" / "unet" / "config.json"
    config = json.loads(file.read_text())
    config["quantization_config"]["original"]["denoiser"]["checkpoint"] = str(to / "gone")
    file.write_text(json.dumps(config))
    return place / "pipeline", to / "saved"


def test_an_original_that_is_not_there_can_be_given(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, saved = moved(place, tmp_path)
    assert sampled(monkeypatch, "--from", saved, "--compare", "--out", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert f"--compare: {saved} was made from '{tmp_path / 'gone'}' (fingerprint " in said
    assert "no such folder" in said
    assert said.endswith("; give --original, the checkpoint that it was made from\n")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert sampled(monkeypatch, "--from", saved, "--compare", "--original", original, "--out", tmp_path / "out") == 0
    facts = json.loads((tmp_path / "out" / "0000.json").read_text())
    assert 5 < facts["compared"]["PSNR dB"] < 60


def test_another_original_is_refused(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = load(checkpoint=str(place / "pipeline"), device="cpu").pipeline()
    other.unet.conv_in.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    args = ("--from", place / "saved", "--compare", "--original", tmp_path / "other", "--out", tmp_path / "out")
    assert sampled(monkeypatch, *args) == 2
    said = capsys.readouterr().err
    assert "--original: " in said
    assert f"{tmp_path / 'other'} has the fingerprint " in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_before_is_drawn_and_says_what_compare_needs(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, saved = moved(place, tmp_path)
    file = saved / "unet" / "config.json"
    config = json.loads(file.read_text())
    del config["quantization_config"]["original"]
    config["quantization_config"]["format"] = "1.1"
    file.write_text(json.dumps(config))
    assert sampled(monkeypatch, "--from", saved, "--out", tmp_path / "one") == 0
    capsys.readouterr()
    assert sampled(monkeypatch, "--from", saved, "--compare", "--out", tmp_path / "two") == 2
    assert capsys.readouterr().err == (
        f"q2: --compare: {saved} does not say what it was made from; give --original, the checkpoint\n"
    )


@pytest.mark.parametrize(
    "args", [("--original", "x"), ("--original", "x", "--compare"), ("--from", "x", "--original", "y")]
)
def test_original_is_for_compare_with_from(
    args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sampled(monkeypatch, *args) == 2
    assert "--original is for --compare with --from" in capsys.readouterr().err


def test_a_pipeline_that_was_loaded_packed_and_saved_again_keeps_its_original(place: Path, tmp_path: Path) -> None:
    load(checkpoint=str(place / "saved"), device="cpu").pipeline().save_pretrained(tmp_path / "again")
    first, again = (SavedFolder.find(str(folder)) for folder in (place / "saved", tmp_path / "again"))
    assert first is not None
    assert again is not None
    assert (again.denoiser, again.fingerprint) == (first.denoiser, first.fingerprint)
