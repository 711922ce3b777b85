"""q2: find, apply and explain mixed-precision quantization of diffusion denoisers.

>>> import q2
>>> digits = q2.denoiser("digits-dit")
>>> graph = q2.trace(digits.model, digits.example_inputs())
>>> graph.macs > 0
True
"""

from typing import TYPE_CHECKING

from q2.lazy import lazy
from q2.registration import register

if TYPE_CHECKING:
    from q2.api import Denoiser, Graph, Recipe, Run, denoiser, open, run_passes, trace, transform  # noqa: A004 (q2.open)
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Denoiser", "Graph", "Recipe", "Run", "denoiser", "open", "run_passes", "trace", "transform"]

register()
