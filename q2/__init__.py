"""q2: find, apply and explain mixed-precision quantization of diffusion denoisers.

>>> import q2
>>> digits = q2.denoiser("digits-dit")
>>> graph = q2.trace(digits.model, digits.example_inputs())
>>> graph.macs > 0
True
"""

from typing import TYPE_CHECKING

from q2.registration import register

if TYPE_CHECKING:
    from q2.api import Denoiser, Graph, Recipe, Run, denoiser, open, run_passes, trace, transform  # noqa: A004 (q2.open)

__all__ = ["Denoiser", "Graph", "Recipe", "Run", "denoiser", "open", "run_passes", "trace", "transform"]


def __getattr__(name: str) -> object:
    """Import torch and diffusers only when something is used, so that ``q2 --help`` answers at once."""
    if name not in __all__:
        raise AttributeError(f"module 'q2' has no attribute {name!r}")
    import q2.api

    return getattr(q2.api, name)


def __dir__() -> list[str]:
    return sorted(__all__)


register()
