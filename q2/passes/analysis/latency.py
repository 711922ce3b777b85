"""How long a call of the graph takes on this machine."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from q2.passes.base import AnalysisPass, PassContext, Report

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["CallLatency", "seconds_of"]


@dataclass(frozen=True)
class CallLatency(AnalysisPass):
    """Seconds of a call on the example inputs: the median of `repeats`, after `warmup` calls, with the middle half.

    Formats are simulated: what is measured is this machine at full precision and the rounding, no accelerator.
    """

    name: ClassVar[str] = "latency"
    warmup: Annotated[int, Field(ge=0)] = 5
    """Calls before the first that is timed."""
    repeats: Annotated[int, Field(ge=1)] = 30
    """Timed calls, of which the median and the middle half are reported."""

    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Measure. The report is of this moment: two runs differ."""
        import numpy as np

        found = seconds_of(graph, self.warmup, self.repeats)
        low, middle, high = (float(np.quantile(found, share)) for share in (0.25, 0.5, 0.75))
        data = {"median": middle, "low": low, "high": high, "repeats": self.repeats}
        return Report(f"{1e3 * middle:.4g} ms a call ({1e3 * low:.4g} to {1e3 * high:.4g}, middle half)", data=data)


def seconds_of(graph: "Graph", warmup: int, repeats: int) -> list[float]:
    """Return the seconds of each of `repeats` calls."""
    import torch

    device = next((each.device for each in graph.model.parameters()), torch.device("cpu"))
    found = []
    with torch.no_grad():
        for number in range(warmup + repeats):
            start = time.perf_counter()
            graph(**graph.example_inputs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= warmup:
                found.append(time.perf_counter() - start)
    return found
