"""A q2 plugin that adds the engine `slurm`."""

from collections.abc import Mapping

from q2.plugins import hookimpl

__all__ = ["q2_api", "q2_engines"]

q2_api = "1"


@hookimpl
def q2_engines() -> Mapping[str, str]:
    """Hand the engine over; its module is imported when a run names it."""
    return {"slurm": f"{__name__}.engine:Slurm"}
