"""Results go to standard output, wherever it leads, while bars are drawn on a terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from q2.cli import main


def test_output_into_a_file_is_whole_while_errors_go_to_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with (tmp_path / "out.txt").open("w") as out:
            subprocess.run([sys.executable, "-m", "q2", "config", "show"], stdout=out, stderr=theirs, check=True)
    finally:
        os.close(theirs)
        os.close(ours)
    assert "denoiser.name" in (tmp_path / "out.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["search", "--set", "seed=3", "compare", "--strategies", "random"], "options of 'compare' stand behind"),
        (["sample", "--from", "saved", "--recipe", "r.toml"], "leave out --recipe"),
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], line: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["q2", *command])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert line in capsys.readouterr().err
