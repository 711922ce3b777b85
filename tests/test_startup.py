"""Commands that look at settings, and mistakes in settings, do not wait for torch."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "numba", "diffusers", "networkx", "scipy", "matplotlib")
CODE = f"""
import atexit, sys, time
def told(): print(*[name for name in {HEAVY} if name in sys.modules], time.process_time(), sep=",", file=sys.stderr)
atexit.register(told)
from q2.cli import main
main()
"""


def started(folder: Path, *args: str) -> tuple[int, str, list[str], float]:
    """Run a command in a process; return exit code, what it said, which heavy packages it imported, CPU seconds."""
    done = subprocess.run([sys.executable, "-c", CODE, *args], capture_output=True, text=True, cwd=folder, check=False)
    *said, last = done.stderr.splitlines()
    *heavy, seconds = last.split(",")
    return done.returncode, done.stdout + "\n".join(said), heavy, float(seconds)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("config", "show", "--config", "digits-dit.toml"), "passes.quantize.timestep_embedder"),
        (("config", "show", "--config", "sdxl.toml", "--set", "seed=11", "--set", "passes.dag.format=png"), "passes.dag.format"),
        (("list", "passes"), "quantize-activations"),
        (("list", "plugins"), "pass quantize"),
        (("list", "configs"), "sdxl.toml"),
    ],
)
def test_a_look_at_settings_is_quick_and_imports_nothing_heavy(
    tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    runs = [started(tmp_path, *args) for _ in range(3)]
    for code, text, heavy, _ in runs:
        assert code == 0, text
        assert said in text
        assert heavy == []
    assert min(seconds for *_, seconds in runs) <= 1


def test_every_pass_that_q2_ships_can_be_read_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom q2.plugins import Plugins\nfrom q2.config import dotted\n"
        "passes = Plugins(entry_points=False).passes\n"
        "steps = [passes.load(name).from_table({}, dotted) for name in passes]\n"
        f"print(len(steps), [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "8 []\n"
