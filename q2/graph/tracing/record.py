"""One trace of a model, repeated with a module kept as one node where tracing through that module fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import cast

import torch
from torch import fx, nn

from q2.errors import TraceError
from q2.graph.tracing.autocast import recorded_autocast
from q2.graph.tracing.caches import without_caches
from q2.graph.tracing.guards import is_impure
from q2.graph.tracing.inputs import Call
from q2.graph.tracing.opaque import opaque_functions
from q2.graph.tracing.surroundings import computed_weights, model_state_kept, recorded_factories, without_data
from q2.graph.tracing.tracer import DataDependentError, ShadowTracer

__all__ = ["Recording", "record"]

_TRACE_LOCK = threading.RLock()  # fx and the factories patch torch while a trace runs


@dataclass(frozen=True)
class Recording:
    """What one trace gives: the graph, the tensors that no node could make, and how to wrap the outputs.

    `output` is the model's output class with its field names, or None where the forward returns plain values.
    `routed` names the mixtures of experts: each is one node, whose ``meta["weight_layers"]`` maps the weight layers
    inside to how many output elements they compute, experts sharing the tokens evenly.
    """

    graph: fx.Graph
    constants: tuple[torch.Tensor, ...]
    output: tuple[Callable[..., object], tuple[str, ...]] | None
    routed: frozenset[str]


def record(
    model: nn.Module, call: Call, *, leaf_types: tuple[type[nn.Module], ...] = (), leaf_names: Collection[str] = ()
) -> Recording:
    """Trace a model for one call; weights, caches and the caller's tensors are not touched.

    A mixture of experts, which chooses among its modules by the data, is kept whole. Raises TraceError, with the path
    of the module that failed and the cause.
    """
    call.check(type(model).__name__)
    routed: frozenset[str] = frozenset()
    while True:
        tracer = ShadowTracer(call, leaf_types, frozenset(leaf_names), routed)
        try:
            return _recording(model, tracer)
        except Exception as error:
            experts = (
                _mixtures(model, tracer.failed_at) - routed if isinstance(error, DataDependentError) else frozenset()
            )
            if not experts:
                where = f" at {tracer.failed_at!r}" if tracer.failed_at else ""
                raise TraceError(f"trace {type(model).__name__}{where}: {_cause(error)}") from error
            routed |= experts


def _recording(model: nn.Module, tracer: ShadowTracer) -> Recording:
    with (
        _TRACE_LOCK,
        torch.inference_mode(False),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        model_state_kept(model),
        without_caches(model),
        recorded_factories(tracer),
        computed_weights(tracer, model),
        recorded_autocast(tracer),
        opaque_functions(tracer),
    ):
        graph = tracer.trace(model)
    tracer.finish()
    for node in graph.nodes:
        node.type = None
        if "val" in node.meta:
            node.meta["val"] = without_data(node.meta["val"])
    graph.owning_module = cast("fx.GraphModule", model)  # fx asks it for submodules only, which every module has
    graph.eliminate_dead_code(is_impure_node=is_impure)
    return Recording(graph, tuple(tracer.constants), tracer.output, tracer.routed)


def _mixtures(model: nn.Module, path: str) -> frozenset[str]:
    """Name the modules of the failed one's kind, if it is or holds experts."""
    if not path:
        return frozenset()
    failed = model.get_submodule(path)
    if not (hasattr(failed, "experts") or "Expert" in type(failed).__name__):
        return frozenset()
    return frozenset(name for name, module in model.named_modules() if type(module) is type(failed))


def _cause(error: Exception) -> str:
    line = next(iter(str(error).splitlines()), "")
    return line if isinstance(error, TraceError) else f"{type(error).__name__}: {line}"
