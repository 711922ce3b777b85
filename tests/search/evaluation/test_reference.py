"""Full precision's side, in files: the same whoever writes them; what earlier versions wrote is made again."""

from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from q2.denoisers import Denoiser
from q2.graph import Graph
from q2.search.evaluation.reference import Reference
from q2.search.metrics.outputs import Sqnr
from q2.settings import EvaluationSettings

SETTINGS = EvaluationSettings(inputs=4, few_steps=2, batch=2, images=2, seed=3)


def made(folder: Path, denoiser: Denoiser, graph: Graph) -> Path:
    """Make the calls in a folder and return their file."""
    Reference(folder, SETTINGS).make(denoiser, graph, ["forward"], [Sqnr(denoiser, SETTINGS)])
    (file,) = folder.glob("*.safetensors")
    return file


def test_a_file_of_calls_is_the_same_byte_for_byte(tmp_path: Path, digits: Denoiser, graph: Graph) -> None:
    first = made(tmp_path / "0", digits, graph).read_bytes()
    assert all(made(tmp_path / str(number), digits, graph).read_bytes() == first for number in range(1, 6))


@pytest.mark.parametrize("head", [{"calls": "[]", "labels": "[]"}, {"calls": "[]"}])
def test_a_file_of_calls_of_an_earlier_version_is_made_again(
    tmp_path: Path, digits: Denoiser, graph: Graph, head: dict[str, str]
) -> None:
    file = made(tmp_path, digits, graph)
    whole = file.read_bytes()
    save_file(load_file(file), file, head)
    with safe_open(file, framework="pt") as changed:
        assert changed.metadata() == head
    assert made(tmp_path, digits, graph).read_bytes() == whole
