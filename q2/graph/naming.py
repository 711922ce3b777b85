"""What a node is called by the function that it stands for: ``linear``, ``batch_norm1d``, ``relu``; and its kind."""

from __future__ import annotations

import re

from torch import fx, nn
from torch.nn import functional as F

from q2.graph.operations import operation

__all__ = ["module_op", "node_kind", "node_op"]


def module_op(kind: str) -> str:
    """Return torch's function for a module's class, or what it would be called.

    >>> [module_op(kind) for kind in ("Linear", "ReLU", "BatchNorm1d", "AdaptiveAvgPool2d", "LeakyReLU")]
    ['linear', 'relu', 'batch_norm1d', 'adaptive_avg_pool2d', 'leaky_relu']
    """
    plain = re.sub(r"(?<=.)ReLU", "Relu", kind)
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", plain).lower()
    return kind.lower() if hasattr(F, kind.lower()) else snake


def node_op(model: nn.Module, node: fx.Node) -> str:
    """Return the name of what a node computes; that of a layer that was quantized is the layer's before."""
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        return module_op(getattr(module, "exact_class", type(module)).__name__)
    return operation(model, node)[0] if node.op.startswith("call") else node.op


def node_kind(model: nn.Module, node: fx.Node) -> str:
    """Return MASE's kind of a node: ``module_related_func`` is a module that torch has as a function too."""
    if node.op == "call_module":
        return "module_related_func" if hasattr(F, node_op(model, node)) else "module"
    if node.op in ("call_function", "call_method"):
        return "builtin_func" if hasattr(F, node_op(model, node)) else "implicit_func"
    return node.op
