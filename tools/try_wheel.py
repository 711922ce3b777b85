"""Build q2's wheel, install it into a fresh environment, and run the main jobs there, outside the checkout.

A plugin of every kind is begun there with ``q2 new plugin``, installed, checked by ruff and mypy, tested and used.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
JOBS = (
    ("--version",),
    ("transform", "--set", "samples.images=10", "--out", "transformed"),
    (
        "search",
        "--config",
        "digits-dit.toml",
        "--trials",
        "4",
        "--set",
        "search.evaluation.images=20",
        "--out",
        "found",
    ),
    ("transform", "--recipe", "found/recipe.toml", "--set", "samples.images=0", "--save", "saved", "--out", "again"),
    ("sample", "--from", "saved", "--class-id", "3", "--n", "2", "--out", "drawn"),
)
KINDS = ("pass", "quantizer", "metric", "strategy", "exporter", "engine", "denoiser")
OWN = ("ruff>=0.11", "mypy>=1.15", "pytest>=8", "setuptools>=77")
USED = tuple(
    line.split()
    for line in (
        "transform --set passes.a-pass.layers='*' --set passes.quantize.default=a-quantizer-4"
        " --set samples.images=0 --out used",
        "search --config digits-dit.toml --trials 3 --strategy a-strategy --set search.engine.name=an-engine"
        " --set search.engine.workers=1 --set search.evaluation.images=4"
        " --set search.evaluation.metrics=['a-metric'] --out climbed",
        "export --to an-exporter --out codes.safetensors",
        "transform --config sdv15.toml --set denoiser.name=a-denoiser --set denoiser.checkpoint="
        " --set denoiser.weights=meta --out planned",
    )
)


def main() -> None:
    """Exit with 1 for the first step that fails."""
    with tempfile.TemporaryDirectory() as folder:
        place, home = Path(folder), Path(folder) / "venv"
        _run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, str(ROOT)])
        wheel = next(place.glob("q2_diffusion-*.whl"))
        venv.create(home, with_pip=False)
        links = ["--find-links", os.environ["PIP_FIND_LINKS"]] if "PIP_FIND_LINKS" in os.environ else []
        files = ["-c", str(ROOT / "constraints.txt"), "--overrides", str(ROOT / "overrides.txt")]
        uv = str(Path(sys.executable).parent / "uv")
        _run([uv, "pip", "install", "-q", "--python", str(home / "bin" / "python"), *links, *files, str(wheel)])
        work = place / "work"
        work.mkdir()
        for job in JOBS:
            _run([str(home / "bin" / "q2"), *job], work)
        plugins = _plugins(home, work, [uv, "pip", "install", "-q", "--python", str(home / "bin" / "python"), *links])
        jobs = f"{len(JOBS) + len(USED)} jobs ran in an environment of their own, with {plugins} new plugins"
        sys.stdout.write(f"{wheel.name}: {jobs}\n")


def _plugins(home: Path, work: Path, install: list[str]) -> int:
    """Begin a plugin of every kind, check, install, test and use them; return how many there are."""
    names = [f"{'an' if kind[0] in 'ae' else 'a'}-{kind}" for kind in KINDS]
    for name, kind in zip(names, KINDS, strict=True):
        _run([str(home / "bin" / "q2"), "new", "plugin", name, "--kind", kind], work)
    folders = [f"q2-plugin-{name}" for name in names]
    _run([*install, *OWN], work)
    _run([*install, "--no-deps", "--no-build-isolation", *(f"./{folder}" for folder in folders)], work)
    _run([str(home / "bin" / "ruff"), "check", *folders], work)
    _run([str(home / "bin" / "ruff"), "format", "--check", *folders], work)
    sources = [f"{folder}/{part}" for folder in folders for part in (folder.replace("-", "_"), "tests")]
    _run([str(home / "bin" / "mypy"), "--config-file", f"{folders[0]}/pyproject.toml", *sources], work)
    tests = [f"{folder}/tests" for folder in folders]
    _run([str(home / "bin" / "pytest"), "-q", "--import-mode=importlib", *tests], work)
    for job in USED:
        _run([str(home / "bin" / "q2"), *job], work)
    return len(folders)


def _run(command: list[str], folder: Path = ROOT) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HUB_OFFLINE"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
