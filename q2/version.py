"""The version of q2. The distribution is called ``q2-diffusion``, the package and the command ``q2``."""

from functools import cache
from importlib.metadata import version as installed

__all__ = ["DISTRIBUTION", "version"]

DISTRIBUTION = "q2-diffusion"


@cache
def version() -> str:
    """Return the installed version of q2.

    >>> version().count(".")
    2
    """
    return installed(DISTRIBUTION)
