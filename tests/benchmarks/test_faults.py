"""A short run of the script that kills commands, fills disks and takes homes away."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def faults(folder: Path, *options: str) -> list[str]:
    """Run the script, which exits with 0 only if nothing failed; return the lines that it prints."""
    command = [sys.executable, "-m", "benchmarks.faults", "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout.splitlines()


def test_killed_commands_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    names = ("bank", "calibrate", "search", "train")
    lines = faults(tmp_path, "--part", "kills", "--kills", "1", "--seed", "11", "--only", *names)
    for name, line in zip(names, lines, strict=False):
        said, rounds, _, kills, _, failures, _ = line.replace(",", "").split()
        assert (said, failures) == (f"{name}:", "0")
        assert int(rounds) >= 1
        assert int(kills) >= 1


def test_a_training_that_is_disturbed_ends_the_same_or_in_one_line(tmp_path: Path) -> None:
    checks = faults(tmp_path, "--part", "checks", "--only", "train")[-1].split("  ")
    assert not {"FAILED"} & set(checks)
    assert checks.count("same") + checks.count(" same") >= 4
