"""What a trial of a module is measured by: name, what it is, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["MODULE_METRICS", "ModuleMetric"]


@dataclass(frozen=True)
class ModuleMetric:
    """A metric of a module's trial."""

    better: Literal["maximize", "minimize"]
    what: str


MODULE_METRICS: Mapping[str, ModuleMetric] = {
    "accuracy": ModuleMetric("maximize", "share of right answers on the runner's split"),
    "loss": ModuleMetric("minimize", "mean cross-entropy on it, in nats"),
    "latency": ModuleMetric("minimize", "median seconds of a call on the example inputs"),
    "avg_bits": ModuleMetric("minimize", "bits of a weight of the weight layers"),
    "average_bitwidth": ModuleMetric("minimize", "mean of the bits of a weight and of an input that is read"),
    "weight_bits": ModuleMetric("minimize", "bits of all weights of the weight layers"),
    "bitops": ModuleMetric("minimize", "BitOPs of layers and products, for one sample"),
    "flops": ModuleMetric("minimize", "their multiply-accumulates, for one sample"),
    "model_size": ModuleMetric("minimize", "bytes of all parameters and buffers in their formats"),
}
"""All of them are measured in every trial."""
