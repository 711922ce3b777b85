"""Which weight layers see a layer's output directly: measured on the eager model, and drawn in the flow graph."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import networkx as nx
import torch
from torch import Tensor, nn

Tensors = dict[str, list[Tensor]]
Watch = Callable[[str, Tensor, Tensor], Tensor]


def measured(model: nn.Module, inputs: Mapping[str, object], layers: list[str]) -> set[tuple[str, str]]:
    """Freeze every layer's output, disturb one at a time, and list whose inputs change."""
    outputs: Tensors = {name: [] for name in layers}
    seen: Tensors = {name: [] for name in layers}

    def record(name: str, given: Tensor, output: Tensor) -> Tensor:
        seen[name].append(given.clone())
        outputs[name].append(output.clone())
        return output

    with watched(model, layers, record):
        model(**inputs)
    edges = set()
    for source in layers:
        touched = _touched(model, inputs, source, seen, outputs)
        edges |= {(source, target) for target in touched if target != source}
    return edges


def _touched(model: nn.Module, inputs: Mapping[str, object], source: str, seen: Tensors, outputs: Tensors) -> set[str]:
    calls = dict.fromkeys(seen, 0)
    touched = set()

    def replay(name: str, given: Tensor, output: Tensor) -> Tensor:
        call = calls[name]
        calls[name] += 1
        if not torch.equal(given, seen[name][call]):
            touched.add(name)
        frozen = outputs[name][call]
        noise = torch.randn(frozen.shape, generator=torch.Generator().manual_seed(call), dtype=frozen.dtype)
        return frozen + noise if name == source else frozen

    with watched(model, list(seen), replay):
        model(**inputs)
    return touched


@contextmanager
def watched(model: nn.Module, layers: list[str], watch: Watch) -> Iterator[None]:
    """Put `watch` (name, input, output) behind every layer; what it returns is the layer's output."""

    def hook(name: str) -> Callable[..., Tensor]:
        return lambda module, args, kwargs, output: watch(name, (*args, *kwargs.values())[0], output)

    handles = [model.get_submodule(name).register_forward_hook(hook(name), with_kwargs=True) for name in layers]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


def drawn(flow: "nx.DiGraph[str]") -> set[tuple[str, str]]:
    """List the pairs of layers that the flow graph connects through combines alone."""
    edges = set()
    for name, data in flow.nodes(data=True):
        todo, found = [name] if data["kind"] == "weight" else [], set()
        while todo:
            for target in flow.successors(todo.pop()):
                if target not in found:
                    found.add(target)
                    if flow.nodes[target]["kind"] == "combine":
                        todo.append(target)
        targets = {flow.nodes[target]["layer"] for target in found if flow.nodes[target]["kind"] == "weight"}
        edges |= {(data["layer"], target) for target in targets if target != data.get("layer")}
    return edges
