"""clean-fid works beside whatever libraries are here, and leaves nothing behind."""

import sys

import numpy as np
import pytest
import torch

from q2.errors import Q2Error
from q2.search.metrics.cleanfid import clean_fid


def test_no_stand_in_of_torchvision_stays() -> None:
    before = {name for name in sys.modules if name.startswith("torchvision")}
    with clean_fid() as fid:
        assert fid.__name__ == "cleanfid.fid"
        assert {name for name in sys.modules if name.startswith("torchvision")} == before


def test_its_images_become_what_torchvision_makes_of_them() -> None:
    with clean_fid() as fid:
        to_tensor = fid.ResizeDataset([], mode="clean").transforms
    image = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)
    np.testing.assert_array_equal(to_tensor(image).numpy(), image.transpose(2, 0, 1) / np.float32(255))
    assert to_tensor(image.astype(np.float32)).dtype == torch.float32
    assert to_tensor(image.astype(np.float32)).max() > 1


def test_scipy_is_its_own_again_afterwards() -> None:
    with clean_fid() as fid:
        changed = fid.linalg
    assert fid.linalg is not changed
    assert fid.linalg.__name__ == "scipy.linalg"


def test_a_missing_clean_fid_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(Q2Error, match="FID needs clean-fid, which is not installed: pip install clean-fid"),
        clean_fid(),
    ):
        pass
