"""Build q2's wheel, install it into a fresh environment, and run the main jobs there, outside the checkout."""

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
        sys.stdout.write(f"{wheel.name}: {len(JOBS)} jobs ran in an environment of their own\n")


def _run(command: list[str], folder: Path = ROOT) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
