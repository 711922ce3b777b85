"""Folders that travel: known again where they are shared, and whole where they are copied."""

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from q2.search.engines.shipping import Copies, digest, packed, unpack

HOLDS = """
import sys, time
from q2.search.engines.shipping import Copies
copies = Copies(sys.argv[1])
copies.hold()
(copies.folder / "bank").mkdir()
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bank" / "layers").mkdir(parents=True)
    (tmp_path / "bank" / "index.json").write_text("{}", encoding="utf-8")
    (tmp_path / "bank" / "layers" / "a.safetensors").write_bytes(bytes(range(256)))
    return tmp_path / "bank"


def test_a_folder_is_known_again_by_the_names_sizes_and_times_of_its_files(tmp_path: Path, folder: Path) -> None:
    first = digest(folder)
    assert len(first) == 16
    assert digest(folder) == first
    shutil.copytree(folder, tmp_path / "same")
    assert digest(tmp_path / "same") == first
    os.utime(tmp_path / "same" / "index.json", ns=(0, 0))
    assert digest(tmp_path / "same") != first
    (folder / "index.json").rename(folder / "other.json")
    assert digest(folder) != first
    assert digest(tmp_path / "none") == ""


def test_a_copy_has_the_same_files(tmp_path: Path, folder: Path) -> None:
    unpack(tmp_path / "copies" / "bank", dict(packed(folder)), bytes)
    assert dict(packed(tmp_path / "copies" / "bank")) == dict(packed(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "copies"]


def test_a_copy_that_is_there_is_not_made_again(tmp_path: Path, folder: Path) -> None:
    def never(data: bytes) -> bytes:
        raise AssertionError

    unpack(folder, {"index.json": b""}, never)
    assert (folder / "index.json").read_text(encoding="utf-8") == "{}"


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def lost(data: bytes) -> bytes:
        raise OSError("lost")

    with pytest.raises(OSError, match="lost"):
        unpack(tmp_path / "bank", {"index.json": b""}, lost)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_copy_at_once_the_first_counts(tmp_path: Path, folder: Path) -> None:
    def overtaken(data: bytes) -> bytes:
        shutil.copytree(folder, tmp_path / "copy", dirs_exist_ok=True)
        return data

    unpack(tmp_path / "copy", {"index.json": b"mine"}, overtaken)
    assert dict(packed(tmp_path / "copy")) == dict(packed(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bank", "copy"]


def test_copies_stay_as_long_as_a_worker_has_them_and_go_with_the_next_worker_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    kept = [tmp_path / "q2-main", tmp_path / f"q2-{uuid.uuid4().hex}-mine"]  # a user's own, of like names
    for folder in kept:
        folder.mkdir()
    token = uuid.uuid4().hex
    with subprocess.Popen([sys.executable, "-c", HOLDS, token], stdout=subprocess.PIPE) as worker:
        assert worker.stdout
        assert worker.stdout.readline()
        Copies(uuid.uuid4().hex)
        assert (tmp_path / f"q2-{token}" / "bank").is_dir()
        worker.kill()
    Copies(token)
    assert (tmp_path / f"q2-{token}" / "bank").is_dir()
    Copies(uuid.uuid4().hex)
    assert set(tmp_path.iterdir()) == set(kept)
