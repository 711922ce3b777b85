"""Where the embedded denoisers and their judges lie inside the package."""

from importlib import resources
from pathlib import Path

__all__ = ["packaged"]


def packaged(name: str) -> Path:
    """Return the folder of an embedded denoiser, or of a judge.

    >>> (packaged("digits-dit") / "model_index.json").is_file()
    True
    """
    return Path(str(resources.files("q2"))) / "denoisers" / "assets" / name
