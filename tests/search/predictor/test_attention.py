"""The fused attention is PyTorch Geometric's GATv2Conv: same parameters, values and gradients."""

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv

from q2.search.predictor.attention import GATv2, Neighbours
from q2.search.predictor.dataset import Ints
from tests.search.predictor.spaces import space


def edges_of(kind: str) -> tuple[Ints, int]:
    if kind == "dit":
        topology = space("dit").topology
        return topology.edges, len(topology.nodes)
    rng = np.random.default_rng(0)
    pairs = {(int(a), int(b)) for a, b in rng.integers(0, 12, (40, 2))}  # cycles and self loops among them
    return np.array(sorted(pairs)).T, 13  # the last node has no edges


@pytest.mark.parametrize("kind", ["dit", "random"])
@pytest.mark.parametrize("inputs", [16, 64])
def test_it_equals_pytorch_geometric(kind: str, inputs: int) -> None:
    edges, nodes = edges_of(kind)
    torch.manual_seed(0)
    theirs, ours = GATv2Conv(inputs, 64), GATv2(inputs, 64)
    ours.load_state_dict(theirs.state_dict())
    copies = 3
    x = torch.randn(copies * nodes, inputs)
    batched = np.hstack([edges + nodes * i for i in range(copies)])
    rows = np.arange(copies * nodes).reshape(copies, nodes)
    left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = theirs(left, torch.from_numpy(batched))
    found = ours(right, rows, Neighbours.of(edges, nodes))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weight = torch.randn_like(expected)
    (expected * weight).sum().backward()
    (found * weight).sum().backward()
    torch.testing.assert_close(right.grad, left.grad, rtol=1e-4, atol=1e-4)
    for (name, a), (_, b) in zip(sorted(theirs.named_parameters()), sorted(ours.named_parameters()), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-3, msg=name)


def test_rows_shared_by_nodes_gather_all_their_gradients() -> None:
    edges, nodes = edges_of("random")
    torch.manual_seed(0)
    conv = GATv2(16, 64)
    table = torch.randn(5, 16)
    rows = np.random.default_rng(0).integers(0, 5, (4, nodes))
    shared, copied = table.clone().requires_grad_(), table.clone().requires_grad_()
    neighbours = Neighbours.of(edges, nodes)
    plain = np.arange(rows.size).reshape(rows.shape)
    a, b = conv(shared, rows, neighbours), conv(copied[torch.from_numpy(rows.reshape(-1))], plain, neighbours)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    torch.testing.assert_close(shared.grad, copied.grad, rtol=1e-4, atol=1e-4)
