"""A q2 plugin that adds the strategy `annealing`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_strategies"]

q2_api = "1"


@hookimpl
def q2_strategies() -> Mapping[str, str]:
    """Hand the strategy over; its module is imported when a run names it."""
    return {"annealing": f"{__name__}.strategy:Annealing"}
