"""A short run of the script that kills commands, fills disks and takes homes away."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_training_that_is_killed_or_has_no_room_loses_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", "2", "--only", "train", "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("train: ")
    assert lines[0].endswith(" kills, 0 failures")
    checks = lines[-1].split("  ")
    assert not {"FAILED"} & set(checks)
    assert checks.count("same") + checks.count(" same") >= 4
