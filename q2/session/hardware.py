"""What GPUs can do, by their makers' data sheets: dense float16 products, memory's speed and size."""

from collections.abc import Mapping
from dataclasses import dataclass

from q2.errors import ConfigError, did_you_mean

__all__ = ["GPUS", "Gpu", "gpu_of"]


@dataclass(frozen=True)
class Gpu:
    """A GPU: float16 operations a second (dense, sums in float32), bytes a second, and bytes of memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float

    def seconds(self, macs: float, moved: float) -> float:
        """Return the least time for so many multiply-accumulates and bytes: the roofline (Williams et al., 2009)."""
        return max(2 * macs / self.flops, moved / self.bandwidth)


GPUS: Mapping[str, Gpu] = {
    key: Gpu(name, flops * 1e12, bandwidth * 1e9, memory * 2**30)
    for key, name, flops, bandwidth, memory in (
        ("t4", "T4", 65, 320, 16),
        ("l4", "L4", 121, 300, 24),
        ("rtx3090", "GeForce RTX 3090", 71, 936, 24),
        ("rtx4090", "GeForce RTX 4090", 165, 1008, 24),
        ("a100", "A100 80GB", 312, 2039, 80),
        ("l40s", "L40S", 362, 864, 48),
        ("h100", "H100 SXM", 989, 3350, 80),
        ("h200", "H200 SXM", 989, 4800, 141),
    )
}


def gpu_of(name: str) -> Gpu:
    """Return a GPU by its key. Raises `ConfigError` with what there is.

    >>> gpu_of("h100").seconds(macs=989e12, moved=0)
    2.0
    """
    if name not in GPUS:
        near = did_you_mean(name, GPUS)
        raise ConfigError(f"no GPU named {name!r}{near} (there are: {', '.join(GPUS)})")
    return GPUS[name]
