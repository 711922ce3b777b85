"""A q2 plugin that adds the transform pass `lowrank`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_passes"]

q2_api = "1"


@hookimpl
def q2_passes() -> Mapping[str, str]:
    """Hand the pass over; its module is imported when a run names it."""
    return {"lowrank": f"{__name__}.passes:LowRank"}
