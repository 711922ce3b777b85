"""A q2 plugin that adds the transform pass `smooth`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_passes"]

q2_api = "1"


@hookimpl
def q2_passes() -> Mapping[str, str]:
    """Hand the pass over; its module is imported when a run names it."""
    return {"smooth": f"{__name__}.passes:Smooth"}
