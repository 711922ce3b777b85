"""The site's pictures, drawn while it is built: by q2 itself, or from the numbers of a page's tables.

A page has ``<!-- picture: NAME what it shows -->``. Pictures are kept in ``.cache/pictures``, and drawn again when what
they are made of changes. `docs/` has three files beside, which the README shows where no site is built.
"""

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["PICTURES", "drawn", "peers_rows", "with_pictures"]

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "pictures"
_MARKER = re.compile(r"^<!-- picture: ([\w.-]+) (.+) -->$", re.MULTILINE)


def by_q2(command: str, made: str) -> Callable[[Path], None]:
    """Return what runs a command of q2 in a folder of its own, and takes the file `made` from there."""

    def draw(path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-m", "q2", *shlex.split(command)]
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"q2 {command}: {done.stderr[-500:]}")
            shutil.copy(Path(folder) / made, path)

    return draw


def peers_rows(denoiser: str) -> list[dict[str, str | int | float | None]]:
    """Return the rows of a denoiser's table in ``docs/peers.md``, as `benchmarks.peers` measured them."""
    text = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {denoiser}\n")[2].partition("\n## ")[0]
    found: list[dict[str, str | int | float | None]] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 8 and re.fullmatch(r"[\d.]+", cells[3]):
            sqnr = None if cells[6] == "not finite" else float(cells[6])
            bits = float(cells[4] or cells[3])
            found.append({"denoiser": denoiser, "method": cells[0], "packed_bits": bits, "latent_sqnr": sqnr})
    return found


def of_peers(denoiser: str) -> Callable[[Path], None]:
    """Return what draws latent SQNR against bits from the table of ``docs/peers.md``."""

    def draw(path: Path) -> None:
        from matplotlib import rc_context

        from benchmarks.peers.show import picture

        with rc_context({"svg.hashsalt": "q2", "svg.fonttype": "none"}):
            picture(peers_rows(denoiser), path)

    return draw


FEW = "--set samples.images=20"
PICTURES: dict[str, Callable[[Path], None]] = {
    "samples.png": by_q2(f"transform {FEW} --out run", "run/samples.png"),
    "broken.png": by_q2(f"transform {FEW} --set passes.quantize.default=uaq-2 --out run", "run/samples.png"),
    "scenes.png": by_q2("transform --config scenes-sd3.toml --set samples.images=8 --out run", "run/samples.png"),
    "sdxl.svg": by_q2("plot dag --config sdxl.toml --out sdxl.svg", "sdxl.svg"),
    "peers-digits-dit.svg": of_peers("digits-dit"),
    "peers-digits-sdxl.svg": of_peers("digits-sdxl"),
}
"""By file name, what draws it."""


def drawn(name: str) -> Path:
    """Return where a picture lies, drawn now unless it was drawn from the same code and pages. Raises `KeyError`."""
    draw, path = PICTURES[name], CACHE / f"{_state()}-{name}"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = CACHE / f"draft-{name}"  # renamed when it is whole
        draw(draft)
        draft.rename(path)
    return path


def with_pictures(markdown: str) -> str:
    """Return a page with its pictures in place of their markers. Raises `KeyError` for one that nothing draws."""

    def image(found: re.Match[str]) -> str:
        _ = PICTURES[found[1]]
        return f"![{found[2]}](pictures/{found[1]})"

    return _MARKER.sub(image, markdown)


def _state() -> str:
    """Return a checksum of what pictures are made of: q2, what draws, and the pages with numbers."""
    own = [Path(__file__), ROOT / "docs" / "peers.md", ROOT / "benchmarks" / "peers" / "show.py"]
    package = (path for path in (ROOT / "q2").rglob("*") if path.suffix in (".py", ".toml", ".safetensors"))
    found = hashlib.sha256()
    for file in (*own, *sorted(package)):
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()[:16]
