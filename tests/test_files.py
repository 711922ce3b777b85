"""Files are whole or not there."""

import json
from pathlib import Path

import pytest

from q2.files import replacing, write_json, write_text


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
