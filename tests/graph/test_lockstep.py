"""Many calls node by node: what layers read at full precision and now, and nothing computed with the wrong weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import q2
from q2.graph import Graph
from q2.graph.lockstep import Lockstep, ModelCall, Pair
from q2.passes.base import weight_of

Reads = dict[str, list[Pair]]


class Net(nn.Module):
    """Two layers that read one tensor, a write in place if asked for, experts in one node, and a branch on a flag."""

    def __init__(self, *, writes: bool = False) -> None:
        super().__init__()
        self.writes = writes
        self.first, self.left, self.right, self.last = (nn.Linear(4, 4) for _ in range(4))
        self.block = Block()

    def forward(self, x: Tensor, double: bool = False) -> Tensor:
        hidden = torch.relu(self.first(x))
        if self.writes:
            held = torch.zeros(4, 4)
            held[: hidden.shape[0]] = hidden
            hidden = held[: hidden.shape[0]]
            hidden += x
        if double:
            hidden = hidden * 2
        return torch.as_tensor(self.last(self.block(self.left(hidden) + self.right(hidden))))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.inner(x) + x)


def made(*, writes: bool = False) -> tuple[Graph, list[ModelCall], dict[str, Tensor]]:
    torch.manual_seed(0)
    model = Net(writes=writes).eval().requires_grad_(False)
    graph = Graph(model, {"x": torch.randn(3, 4)}, leaf_types=(Block,))
    exact = {name: weight_of(layer.module).clone() for name, layer in graph.weight_layers.items()}
    return graph, [((torch.randn(3, 4),), {}) for _ in range(3)], exact


def reads(model: Any, calls: Sequence[ModelCall], names: Sequence[str]) -> dict[str, list[Tensor]]:
    """What layers read when the model itself runs."""
    found: dict[str, list[Tensor]] = {name: [] for name in names}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: found[name].append(args[0].clone())
        )
        for name in names
    ]
    for args, inputs in calls:
        model(*args, **inputs)
    for handle in handles:
        handle.remove()
    return found


def changing(graph: Graph, seen: Reads, factors: Mapping[str, float]) -> Callable[[str, Sequence[Pair]], None]:
    def visit(name: str, inputs: Sequence[Pair]) -> None:
        seen[name] = [(exact.clone(), now.clone()) for exact, now in inputs]
        weight_of(graph.weight_layers[name].module).mul_(factors.get(name, 1.0))

    return visit


def check(*, writes: bool) -> None:
    graph, calls, exact = made(writes=writes)
    names = ["first", "left", "right", "last"]
    before = reads(graph.model, calls, names)
    factors, seen = {"first": 0.5, "right": 0.25}, Reads()

    def held(name: str) -> dict[str, Tensor]:
        return {"weight": exact[name]} if name in factors else {}

    Lockstep(graph, calls, held).run(changing(graph, seen, factors))
    after = reads(graph.model, calls, names)
    assert list(seen) == names
    for name in names:
        for i, (was, now) in enumerate(seen[name]):
            assert torch.equal(was, before[name][i])
            assert torch.equal(now, after[name][i])
    assert not torch.equal(before["last"][0], after["last"][0])


def test_a_layer_is_shown_what_it_reads_at_full_precision_and_with_the_layers_before_it_changed() -> None:
    check(writes=False)


def test_writes_in_place_do_not_leak_from_one_side_to_the_other() -> None:
    check(writes=True)


def test_until_something_has_changed_both_sides_are_one_tensor() -> None:
    graph, calls, _ = made()
    same: dict[str, bool] = {}
    Lockstep(graph, calls, lambda _: {}).run(
        lambda name, inputs: same.update({name: all(was is now for was, now in inputs)})
    )
    assert same == dict.fromkeys(["first", "left", "right", "last"], True)


def test_a_module_that_is_one_node_computes_with_its_own_full_precision_weights() -> None:
    graph, calls, _ = made()
    inner: Any = graph.model.get_submodule("block.inner")
    before = reads(graph.model, calls, ["last"])["last"]
    exact = inner.weight.detach().clone()
    inner.weight.data.mul_(3)
    after = reads(graph.model, calls, ["last"])["last"]
    seen = Reads()

    def held(name: str) -> dict[str, Tensor]:
        return {"inner.weight": exact} if name == "block" else {}

    Lockstep(graph, calls, held).run(changing(graph, seen, {}))
    assert all(torch.equal(was, each) for (was, _), each in zip(seen["last"], before, strict=True))
    assert all(torch.equal(now, each) for (_, now), each in zip(seen["last"], after, strict=True))


def test_calls_that_take_another_path_are_left_out() -> None:
    graph, calls, _ = made()
    other: ModelCall = ((torch.randn(3, 4),), {"double": True})
    lockstep = Lockstep(graph, [other, *calls], lambda _: {})
    assert len(lockstep.calls) == 3
    seen = Reads()
    lockstep.run(changing(graph, seen, {}))
    expected = reads(graph.model, calls, ["last"])["last"]
    assert all(torch.equal(was, each) for (was, _), each in zip(seen["last"], expected, strict=True))


def test_peak_memory_is_that_of_the_tensors_that_are_needed_at_once() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval().requires_grad_(False)
    graph = q2.trace(model, {"input": torch.zeros(3, 4)})
    lockstep = Lockstep(graph, [((torch.zeros(3, 4),), {})], lambda _: {})
    assert lockstep.peak_bytes() == 3 * 8 * 4
