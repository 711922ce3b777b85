"""Files are whole or not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2.files import creating, parse_toml, replacing, toml_text, write_json, write_text

SIGNS = st.text("\\x\"'a0 \n\t\r\x00\x01\x7f\x85\xa0\xad\u2028é\U0001f600u.#[]=", max_size=7)
HALFWAY = """
import os, sys, time
from pathlib import Path
from q2.files import creating, replacing
folder = Path(sys.argv[1])
with creating(folder / "made") as beside, replacing(folder / "kept.txt") as file:
    (beside / "part.txt").write_text("half")
    with replacing(file) as deeper:
        print(flush=True)
        time.sleep(60)
"""


def halfway(folder: Path) -> "subprocess.Popen[bytes]":
    """A process in the middle of writing a folder and a file."""
    process = subprocess.Popen([sys.executable, "-c", HALFWAY, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline()
    return process


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half", encoding="utf-8")
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_has_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"x": float("inf"), "y": (float("nan"), 1.5)})
    assert json.loads((tmp_path / "deep" / "a.json").read_text(encoding="utf-8")) == {"x": None, "y": [None, 1.5]}


def test_what_a_killed_process_left_half_written_is_removed_by_the_next_that_writes_it(tmp_path: Path) -> None:
    with halfway(tmp_path) as process:
        process.kill()
    assert len(list(tmp_path.iterdir())) == 3
    write_text(tmp_path / "other.txt", "another file")
    assert len(list(tmp_path.iterdir())) == 4
    write_text(tmp_path / "kept.txt", "new")
    with creating(tmp_path / "made") as beside:
        (beside / "whole.txt").touch()
    assert sorted(os.listdir(tmp_path)) == ["kept.txt", "made", "other.txt"]
    assert os.listdir(tmp_path / "made") == ["whole.txt"]


def test_what_a_process_is_still_writing_is_left_to_it(tmp_path: Path) -> None:
    with halfway(tmp_path) as process:
        half = set(os.listdir(tmp_path))
        write_text(tmp_path / "kept.txt", "new")
        with creating(tmp_path / "made"):
            pass
        assert set(os.listdir(tmp_path)) == {*half, "kept.txt", "made"}
        process.kill()


@given(st.dictionaries(SIGNS, st.one_of(SIGNS, st.lists(SIGNS), st.dictionaries(SIGNS, SIGNS))))
def test_any_text_comes_back_from_toml(table: dict[str, object]) -> None:
    assert parse_toml(toml_text(table)) == table
