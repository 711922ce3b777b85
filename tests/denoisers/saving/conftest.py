"""A folder that the tests of saving share."""

from pathlib import Path

import pytest

from q2.denoisers import load
from q2.denoisers.saving.save import save_packed
from tests.denoisers.saving.folders import quantized


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A saved folder of a tiny DiT."""
    denoiser = load("dit", tiny=True, device="cpu")
    quantized(denoiser)
    save_packed(denoiser, tmp_path / "tiny")
    return tmp_path / "tiny"
