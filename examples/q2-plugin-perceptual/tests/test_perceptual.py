"""The metric keeps to q2's suite with a tiny network, has the value of its formula, and says what a file lacks."""

from pathlib import Path

import pytest
import torch
from q2_plugin_perceptual.metric import SCALE, SHIFT, STAGES, VARIABLE, Lpips
from safetensors.torch import save_file
from torch import Tensor, nn

from q2.denoisers import Samples, load
from q2.errors import ConfigError
from q2.plugins import Plugins
from q2.search.kinds import METRICS
from q2.search.metrics.base import Chunk
from q2.settings import EvaluationSettings
from q2.testing import MetricSuite

WIDTHS, KERNELS = (4, 6, 8, 6, 6), (11, 5, 3, 3, 3)


def _weights() -> dict[str, Tensor]:
    """Return a network like AlexNet with a few channels, and random weights of the distance."""
    generator = torch.Generator().manual_seed(0)
    found, channels = {}, 3
    for stage, ((number, *_), width, kernel) in enumerate(zip(STAGES, WIDTHS, KERNELS, strict=True)):
        shape = (width, channels, kernel, kernel)
        found[f"features.{number}.weight"] = torch.randn(shape, generator=generator) / (channels * kernel**2) ** 0.5
        found[f"features.{number}.bias"] = 0.1 * torch.rand(width, generator=generator)
        found[f"lin{stage}.model.1.weight"] = torch.rand((1, width, 1, 1), generator=generator)
        channels = width
    return found


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the weights and name their file."""
    path = tmp_path / "lpips.safetensors"
    save_file(_weights(), path)
    monkeypatch.setenv(VARIABLE, str(path))
    return path


class TestLpips(MetricSuite):
    metric = Lpips
    side = 64


def _metric() -> Lpips:
    return Lpips(load("dit", tiny=True, device="cpu"), EvaluationSettings())


def test_the_distance_is_that_of_the_formula() -> None:
    """Worked out with torch's modules, which the published code is made of."""
    found = _weights()
    layers: list[nn.Module] = []
    for (number, stride, padding, pooled), width, kernel in zip(STAGES, WIDTHS, KERNELS, strict=True):
        layers += [nn.MaxPool2d(3, 2)] if pooled else []
        conv = nn.Conv2d(found[f"features.{number}.weight"].shape[1], width, kernel, stride, padding)
        conv.load_state_dict({key: found[f"features.{number}.{key}"] for key in ("weight", "bias")})
        layers += [conv, nn.ReLU()]
    made, full = torch.rand(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    wanted = torch.zeros(3)
    one, other = (
        (2 * x - 1 - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None] for x in (made, full)
    )
    stage = 0
    for layer in layers:
        one, other = layer(one), layer(other)
        if isinstance(layer, nn.ReLU):
            difference = nn.functional.normalize(one) - nn.functional.normalize(other)
            wanted += (difference**2 * found[f"lin{stage}.model.1.weight"]).sum(1).mean((1, 2))
            stage += 1
    labels = torch.zeros(3, dtype=torch.long)
    rows = _metric().rows(Chunk(Samples(made, labels), Samples(full, labels)))
    assert rows.tolist() == pytest.approx(wanted.tolist(), rel=1e-4)
    assert _metric().rows(Chunk(Samples(full, labels), Samples(full, labels))).tolist() == [0, 0, 0]


def test_a_file_of_torch_gives_the_same_and_grey_images_work(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, full = torch.rand(2, 2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    labels = torch.zeros(2, dtype=torch.long)
    chunk = Chunk(Samples(made, labels), Samples(full, labels))
    before = _metric().rows(chunk).tolist()
    torch.save(_weights(), weights.with_suffix(".pt"))
    monkeypatch.setenv(VARIABLE, str(weights.with_suffix(".pt")))
    assert _metric().rows(chunk).tolist() == before
    assert min(before) > 0


def test_what_a_file_lacks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = _weights()
    (tmp_path / "text.safetensors").write_text("nothing", encoding="utf-8")
    save_file(
        {name: value for name, value in found.items() if name != "lin2.model.1.weight"}, tmp_path / "a.safetensors"
    )
    save_file({**found, "features.3.weight": torch.zeros(6, 5, 5, 5)}, tmp_path / "b.safetensors")
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "c.pt")
    cases = {
        "gone.safetensors": "cannot be read",
        "text.safetensors": "holds no tensors",
        "a.safetensors": "has no 'lin2.model.1.weight'",
        "b.safetensors": "features.3.weight does not read 4 channels",
        "c.pt": "holds more than tensors",
    }
    for name, words in cases.items():
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        with pytest.raises(ConfigError, match=words) as error:
            _metric()
        assert "\n" not in str(error.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match="set the environment variable Q2_LPIPS_WEIGHTS"):
        _metric()


def test_q2_finds_it() -> None:
    assert Plugins(["q2_plugin_perceptual"], entry_points=False).of(METRICS).load("LPIPS") is Lpips
