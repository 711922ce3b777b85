"""Build torchsort's kernels against the torch of this environment; without them q2 uses its own, slower soft rank.

torchsort's setup compiles CUDA kernels wherever an `nvcc` can be run, which fails beside a CPU build of torch or a
toolkit of another version. So nvcc is hidden while it builds, unless Q2_TORCHSORT_CUDA=1 asks for those kernels.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

VERSION = "0.1.10"


def folders_without(name: str, path: str, beside: Path) -> Iterator[str]:
    """Yield the folders of a search path; one that holds `name` is replaced by links to all else in it."""
    for number, folder in enumerate(path.split(os.pathsep)):
        if not (Path(folder) / name).exists():
            yield folder
            continue
        links = beside / str(number)
        links.mkdir()
        for file in Path(folder).iterdir():
            if file.name != name:
                (links / file.name).symlink_to(file)
        yield str(links)


def main() -> None:
    """Install torchsort unless it is there; say so where it cannot be built."""
    if find_spec("torchsort"):
        return
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as beside:
        path = environment.get("PATH", os.defpath)
        if environment.get("Q2_TORCHSORT_CUDA") != "1":
            path = os.pathsep.join(folders_without("nvcc", path, Path(beside)))
            environment = {key: value for key, value in environment.items() if key not in ("CUDA_HOME", "CUDA_PATH")}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"  # ninja
        environment.setdefault("CFLAGS", "-O1 -g0")  # halves the build's time
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-build-isolation"]
        command += ["--no-deps", "--no-cache-dir", f"torchsort=={VERSION}"]  # a cached wheel may be for another torch
        if subprocess.run(command, env=environment, check=False).returncode:
            sys.stderr.write("torchsort could not be built; q2 uses its own soft rank\n")


if __name__ == "__main__":
    main()
