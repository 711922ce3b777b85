"""Weight layers of a traced model, and their multiply-accumulates."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

__all__ = ["WEIGHT_TYPES", "Geometry", "WeightLayer", "layer_macs"]

WEIGHT_TYPES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Geometry:
    """What a weight layer computes: its kind, its weight's shape, and the groups of its channels."""

    type: str
    shape: tuple[int, ...]
    groups: int
    bias: bool

    @property
    def in_channels(self) -> int:
        """Input channels, of all groups together."""
        return self.shape[1] * self.groups

    @classmethod
    def of(cls, module: nn.Module) -> Geometry | None:
        """Read the geometry of a weight layer; None for any other module.

        >>> Geometry.of(nn.Conv2d(4, 8, 3, groups=2))
        Geometry(type='Conv2d', shape=(8, 2, 3, 3), groups=2, bias=True)
        """
        if isinstance(module, nn.Linear):
            return cls("Linear", (module.out_features, module.in_features), 1, module.bias is not None)
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            base = next(kind for kind in WEIGHT_TYPES if isinstance(module, kind))
            shape = (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
            return cls(base.__name__, shape, module.groups, module.bias is not None)
        return None


@dataclass(frozen=True)
class WeightLayer:
    """One weight layer of a graph, however often it is called.

    `macs` counts the multiply-accumulates of all its calls, at the batch of the graph's example inputs.
    """

    name: str
    geometry: Geometry
    macs: int
    calls: int
    _model: nn.Module = field(repr=False, compare=False)

    @property
    def module(self) -> nn.Module:
        """The module that the model holds under this name now."""
        return self._model.get_submodule(self.name)

    @property
    def type(self) -> str:
        """`Linear`, `Conv1d`, `Conv2d` or `Conv3d`, also for subclasses and for what has replaced the layer."""
        return self.geometry.type

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight: output channels, input channels per group, kernel."""
        return self.geometry.shape

    @property
    def weights(self) -> int:
        """Number of weights, without the bias."""
        return math.prod(self.shape)

    @property
    def in_channels(self) -> int:
        """Input channels, of all groups together."""
        return self.geometry.in_channels

    @property
    def out_channels(self) -> int:
        """Output channels."""
        return self.shape[0]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Size of the kernel; empty for a Linear."""
        return self.shape[2:]

    @property
    def groups(self) -> int:
        """Groups of a convolution; 1 for a Linear."""
        return self.geometry.groups

    @property
    def bias(self) -> bool:
        """Return whether the layer adds a bias."""
        return self.geometry.bias


def layer_macs(node: fx.Node, geometry: Geometry) -> int:
    """Count one call's multiply-accumulates: every output element is a dot product over input channels and kernel."""
    outputs = (leaf for leaf in pytree.tree_leaves(node.meta.get("val")) if isinstance(leaf, torch.Tensor))
    output = next(outputs, None)
    return 0 if output is None else output.numel() * math.prod(geometry.shape[1:])
