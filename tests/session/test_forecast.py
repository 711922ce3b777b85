"""What `q2 plan` says before there is a quantized denoiser, beside what one takes."""

from pathlib import Path

import pytest

from q2.config import RunFile
from q2.errors import ConfigError
from q2.quant import Recipe
from q2.session.forecast import forecast
from q2.session.hardware import GPUS, gpu_of
from q2.session.session import Session


def session(*sets: str, config: str = "digits-dit.toml") -> Session:
    return Session(RunFile.load(config, list(sets)))


def test_a_plan_of_the_run_files_options_has_the_bits_and_bytes_of_its_transform() -> None:
    found = forecast(session())
    assert found.plan["size"] == "2.93 MB, 4.353 bits a weight (16 bits: 10.76 MB)"
    assert found.recipe.avg_bits == pytest.approx(4.353310502283105)
    assert found.memory["decoded weight"] == 393216 * 4  # the largest quantized layer, in float32


def test_a_budget_is_used_up_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = forecast(session(), avg_bits=3.3)
    assert 3.25 < found.recipe.avg_bits <= 3.3
    assert "a prior" in found.plan["recipe"]
    found.recipe.save("recipe.toml")
    assert Recipe.load("recipe.toml").layers == found.recipe.layers
    with pytest.raises(ConfigError, match=r"avg_bits <= 1"):
        forecast(session(), avg_bits=1.0)


def test_a_bank_that_is_there_says_the_errors(tmp_path: Path, one_option_bank: Path) -> None:
    found = forecast(session(f"bank.path={one_option_bank}", 'search.options=["uaq-4", "none"]'), avg_bits=8.0)
    assert f"the errors in {one_option_bank}" in found.plan["recipe"]
    assert 7.5 < found.recipe.avg_bits <= 8.0


def test_memory_and_time_grow_with_the_images_and_time_is_a_gpus_if_one_is_named() -> None:
    one, four = (forecast(session(), images=images, gpu=gpu_of("h100")) for images in (1, 4))
    assert four.memory["activations"] > 3 * one.memory["activations"]
    assert one.memory["weights"] == four.memory["weights"]
    assert one.seconds == pytest.approx(12 * one.memory["weights"] / GPUS["h100"].bandwidth)  # bound by memory
    assert "H100" in one.plan["time"]
    with pytest.raises(ConfigError, match="images: expected at least 1"):
        forecast(session(), images=0)


@pytest.mark.parametrize(
    ("images", "times"), [(1, "8.5 to 17"), (8, "2.5 to 5.8"), (31, "2.5 to 5.8"), (64, "1.6 to 3")]
)
def test_the_time_says_how_far_it_is_from_what_the_embedded_denoisers_take(images: int, times: str) -> None:
    line = forecast(session("denoiser.weights=meta"), images=images).plan["time"]
    assert line.endswith(f"by a product of matrices; the embedded denoisers take {times} times that)")


def test_an_unknown_gpu_is_one_line_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no GPU named 'h10'; did you mean 'h100'\? \(there are: t4, l4, "):
        gpu_of("h10")
