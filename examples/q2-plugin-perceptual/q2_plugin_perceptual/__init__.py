"""A q2 plugin that adds the metric `LPIPS`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_metrics"]

q2_api = "1"


@hookimpl
def q2_metrics() -> Mapping[str, str]:
    """Hand the metric over; its module is imported when a run names it."""
    return {"LPIPS": f"{__name__}.metric:Lpips"}
