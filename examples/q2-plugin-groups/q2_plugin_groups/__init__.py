"""A q2 plugin that adds quantizers by groups of inputs: `uaq-g32`, `-g64`, `-g128`; `nf`, `nf-g32`, `-g64`, `-g128`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_quantizers"]

q2_api = "1"

_CLASSES = ("UaqG32", "UaqG64", "UaqG128", "NormalFloat", "NormalFloatG32", "NormalFloatG64", "NormalFloatG128")
_NAMES = ("uaq-g32", "uaq-g64", "uaq-g128", "nf", "nf-g32", "nf-g64", "nf-g128")


@hookimpl
def q2_quantizers() -> Mapping[str, str]:
    """Hand the quantizers over; their module is imported when a run names one."""
    return {name: f"{__name__}.quantizers:{cls}" for name, cls in zip(_NAMES, _CLASSES, strict=True)}
