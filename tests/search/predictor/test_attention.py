"""The fused attention is PyTorch Geometric's GATv2Conv: on its own module, with the same values and gradients."""

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv

from q2.search.predictor.attention import Messages, Neighbours, gather, send
from q2.search.predictor.dataset import GraphSet, Ints
from q2.search.predictor.model import HopNetwork, Scale, Table
from q2.search.predictor.train import Training, build
from tests.search.predictor.spaces import graphs, space
from tests.search.predictor.test_dataset import sequences


def edges_of(kind: str) -> tuple[Ints, int]:
    if kind == "dit":
        topology = space("dit").topology
        return topology.edges, len(topology.nodes)
    rng = np.random.default_rng(0)
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, 12, (40, 2))}  # cycles and self loops among them
    return np.array(sorted(pairs)).T, 13  # the last node has no edges


def close(found: torch.Tensor | None, expected: torch.Tensor | None, name: str = "") -> None:
    """To 1e-5 of the largest entry."""
    assert found is not None
    assert expected is not None
    largest = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found / largest, expected / largest, rtol=0, atol=1e-5, msg=name or None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_what_is_too_large_gives_no_number_and_raises_nothing_as_in_pytorch_geometric(value: float) -> None:
    edges, nodes = edges_of("random")
    torch.manual_seed(0)
    conv = GATv2Conv(16, 64)
    rows = np.arange(nodes)[None]
    for x in (torch.full((nodes, 16), value), torch.randn(nodes, 16).sign() * value):
        own = x.clone().requires_grad_()
        for how in ("pyg", "fused"):
            out = Messages(edges, nodes, how).through(conv, own, rows)
            assert not out.isfinite().all()
            out.sum().backward()


@pytest.mark.parametrize("kind", ["dit", "random"])
@pytest.mark.parametrize("inputs", [16, 64])
def test_it_equals_pytorch_geometric(kind: str, inputs: int) -> None:
    edges, nodes = edges_of(kind)
    torch.manual_seed(0)
    conv = GATv2Conv(inputs, 64)
    copies = 3
    x = torch.randn(copies * nodes, inputs)
    rows = np.arange(copies * nodes).reshape(copies, nodes)
    batched = np.hstack([edges + nodes * i for i in range(copies)])
    weight = torch.randn(len(x), 64)

    def run(how: str) -> list[torch.Tensor]:
        own = x.clone().requires_grad_()
        conv.zero_grad()
        if how == "pyg itself":
            out = conv(own, torch.from_numpy(batched))
        else:
            out = Messages(edges, nodes, "pyg" if how == "pyg" else "fused").through(conv, own, rows)
        (out * weight).mean().backward()
        assert own.grad is not None
        return [out.detach(), own.grad, *(p.grad.clone() for p in conv.parameters() if p.grad is not None)]

    expected = run("pyg itself")
    assert len(expected) == 8
    for how in ("fused", "pyg"):
        for i, (a, b) in enumerate(zip(run(how), expected, strict=True)):
            close(a, b, f"{how} {i}")


def test_rows_shared_by_nodes_gather_all_their_gradients() -> None:
    edges, nodes = edges_of("random")
    torch.manual_seed(0)
    conv = GATv2Conv(16, 64)
    table = torch.randn(5, 16)
    rows = np.random.default_rng(0).integers(0, 5, (4, nodes))
    shared, copied = table.clone().requires_grad_(), table.clone().requires_grad_()
    neighbours = Neighbours.of(edges, nodes)
    plain = np.arange(rows.size).reshape(rows.shape)
    a = gather(conv, send(conv, shared), rows, neighbours)
    b = gather(conv, send(conv, copied[torch.from_numpy(rows.reshape(-1))]), plain, neighbours)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    torch.testing.assert_close(shared.grad, copied.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("made", [graphs(space("dit"), 6), GraphSet.of(sequences(6))], ids=["shared", "of any kind"])
def test_the_network_is_the_same_through_either(made: GraphSet) -> None:
    """Weights pass from one to the other; predictions, scores and gradients are the same."""
    torch.manual_seed(0)
    shape = (made.fields, made.numbers, made.hops(4))
    fused, pyg = (build(*shape, Training(attention="fused" if i == 0 else "pyg")).eval() for i in range(2))
    pyg.load_state_dict(fused.state_dict())
    layers = [(name, module) for name, module in fused.named_modules() if isinstance(module, GATv2Conv)]
    assert [name for name, _ in layers] == [f"convs.{i}" for i in range(4)]
    table, layout = Table.of(made, Scale.of(made)), made.layout(range(6), 4)

    def run(model: HopNetwork) -> tuple[list[torch.Tensor], dict[str, Any]]:
        prediction, scores = model(table, layout)
        (prediction.mean() + scores.mean()).backward()
        return [prediction.detach(), scores.detach()], {name: p.grad for name, p in model.named_parameters()}

    (left, ours), (right, theirs) = run(fused), run(pyg)
    for a, b in zip(left, right, strict=True):
        close(a, b)
    assert set(ours) == set(theirs)
    for name, gradient in theirs.items():
        close(ours[name], gradient, name)


def test_the_fused_kernel_is_chosen_on_a_cpu_and_can_be_switched_off() -> None:
    edges, nodes = edges_of("random")
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    chosen = {name: Messages(edges, nodes, name).fused for name in ("auto", "fused", "pyg")}
    assert [chosen["auto"](cpu), chosen["auto"](cuda)] == [True, False]
    assert [chosen["pyg"](cpu), chosen["pyg"](cuda)] == [False, False]
    assert chosen["fused"](cpu)
