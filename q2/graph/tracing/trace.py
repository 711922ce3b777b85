"""Trace a model into a graph."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from q2.arguments import unexpected
from q2.graph.graph import Graph
from q2.graph.tracing.inputs import check_names

__all__ = ["trace"]


def trace(
    model: nn.Module, example_inputs: Mapping[str, object], *, leaf_types: tuple[type[nn.Module], ...] = ()
) -> Graph:
    """Trace a model into a graph that runs for other batch sizes, timesteps and text lengths as well.

    `example_inputs` are keyword arguments of the model's forward; with the model on meta they may be there too, real
    ones let the trace follow decisions on their values. Modules of `torch.nn`, weight layers and `leaf_types` become
    one node each, everything else is traced through. The model is left as it was, the inputs are not written to.

    Raises TraceError for an unknown or missing input, and for a model that decides on values computed from weights.

    >>> import torch
    >>> graph = trace(nn.Linear(4, 2), {"input": torch.zeros(1, 4)}, leaf_types=())
    >>> graph.model
    Linear(in_features=4, out_features=2, bias=True)
    """
    if not isinstance(model, nn.Module):
        raise unexpected("model", model, "a torch.nn.Module, such as a denoiser's model")
    if not isinstance(example_inputs, Mapping):
        raise unexpected("example_inputs", example_inputs, "keyword arguments of the model's forward")
    check_names(model, example_inputs)
    return Graph(model, example_inputs, leaf_types=leaf_types)
