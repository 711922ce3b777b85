"""The search path for building torchsort: nvcc is gone from it, and everything beside it is still there."""

import os
import shutil
from pathlib import Path

from tools.install_torchsort import folders_without


def test_nvcc_is_hidden_and_its_neighbours_are_not(tmp_path: Path) -> None:
    plain, cuda, beside = tmp_path / "plain", tmp_path / "cuda", tmp_path / "beside"
    for folder in (plain, cuda, beside):
        folder.mkdir()
    for program in (plain / "ninja", cuda / "nvcc", cuda / "gcc"):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    path = os.pathsep.join(folders_without("nvcc", f"{plain}{os.pathsep}{cuda}", beside))
    assert shutil.which("nvcc", path=path) is None
    assert shutil.which("ninja", path=path) == str(plain / "ninja")
    found = shutil.which("gcc", path=path)
    assert found is not None
    assert Path(found).resolve() == cuda / "gcc"
