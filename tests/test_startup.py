"""Commands that look at settings, and mistakes in settings, do not wait for torch."""

import os
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
    wide = os.environ | {"COLUMNS": "200"}  # no name is cut
    done = subprocess.run(
        [sys.executable, "-c", CODE, *args], capture_output=True, text=True, cwd=folder, env=wide, check=False
    )
    *said, last = done.stderr.splitlines()
    *heavy, seconds = last.split(",")
    return done.returncode, done.stdout + "\n".join(said), heavy, float(seconds)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("config", "show", "--config", "digits-dit.toml"), "passes.quantize.timestep_embedder"),
        (
            ("config", "show", "--config", "sdxl.toml", "--set", "seed=11", "--set", "passes.dag.format=png"),
            "passes.dag.format",
        ),
        (("config", "show", "--config", "jsc-tiny.toml"), "passes.quantize.linear.config"),
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
        "import sys\nfrom q2.passes.kinds import PASSES\nfrom q2.plugins import Plugins\nfrom q2.config import dotted\n"
        "passes = Plugins(entry_points=False).of(PASSES)\n"
        "steps = [passes.load(name).from_table({}, dotted) for name in passes]\n"
        f"print(len(steps), [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "23 []\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("transform", "--config", "gone.toml"), "gone.toml: no such run file"),
        (("transform", "--recipe", "gone.toml"), "--recipe gone.toml: cannot be read"),
        (("transform", "--set", "samples.images=x"), '--set samples.images: should be a valid integer, not "x"'),
        (("transform", "--set", "passes.stats.sampels=2"), "sampels: unknown key; did you mean 'samples'?"),
        (("transform", "--set", "passes.quantize.default=uaq-17"), "width 17 of 'uaq-17' is outside 1 to 8"),
        (("bank", "--set", 'bank.options=["uap-4"]'), "no quantizer named 'uap' in 'uap-4'; did you mean 'uaq'?"),
        (("sample", "--set", "denoiser.name=digit-dit"), "denoiser.name: no denoiser named 'digit-dit'; did you mean"),
        (("search", "--strategy", "randm"), "--set search.strategy: no strategy named 'randm'; did you mean 'random'?"),
        (
            ("search", "--strategy", "random", "--set", "search.strategies.random.sed=1"),
            "search.strategies.random.sed: unknown key",
        ),
        (
            ("search", "--strategy", "random", "--set", "search.target=avgbits"),
            "unknown metric 'avgbits'; did you mean 'avg_bits'?",
        ),
        (
            ("search", "--strategy", "random", "--set", "search.constraints=['avgbits <= 3']"),
            "no metric 'avgbits'; did you mean 'avg_bits'?",
        ),
        (("search", "--set", "search.engine.name=locl"), "no engine named 'locl'; did you mean 'local'?"),
        (("search", "compare", "--strategies", "random,randm"), "strategies: no strategy named 'randm'"),
        (("evaluate", "--recipe", "gone.toml"), "--recipe gone.toml: cannot be read"),
        (("export", "--to", "ggu", "--out", "x"), "no exporter named 'ggu'; did you mean 'gguf'?"),
        (("plot", "dag", "--set", "passes.quantise.by=type"), "no pass named 'quantise'; did you mean 'quantize'?"),
        (("predictor", "train", "--trials", "x", "--set", 'search.evaluation.metrics=["SIM"]'), "named 'SIM'"),
    ],
)
def test_a_mistake_in_settings_is_said_before_torch_is_imported(
    tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    code, text, heavy, _ = started(tmp_path, *args)
    assert code == 2
    assert said in text
    assert heavy == []
    assert list(tmp_path.iterdir()) == []
