"""One graph network for several denoisers: it says of every layer by how much its output error counts.

The network reads the flow graph of a denoiser once, not once a trial: a layer's role, where it is and how wide it is as
fractions, the statistics of its inputs and the size of its outputs. What it gives is added to the log of the output
error; noises are summed over layers, and the logarithm of the sum is compared with the trials. So it is trained on
trials of several denoisers, and ranks the recipes of another one without any of its trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.worth.data import Trials
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.noise import DECIBELS

__all__ = ["Kind", "Sensitivities", "train_shared"]

Kind = Literal["graph", "alone", "linear"]
"""Messages along the flow graph and against it; each layer by itself; a linear function of its features."""
_WIDTH = 32


@dataclass(frozen=True, eq=False)
class Graph:
    """A denoiser as the network sees it: features of nodes (N, k), roles (N,), edges both ways, nodes of choices."""

    numbers: Tensor
    roles: Tensor
    edges: Tensor
    nodes: Tensor
    logs: Tensor

    @classmethod
    def of(cls, trials: Trials, roles: dict[str, int], activations: bool) -> Graph:
        """Make it; of a role that no other denoiser has the embedding stays 0."""
        space, topology = trials.space, trials.space.topology
        count = len(topology.nodes)
        place = {name: i for i, name in enumerate(topology.nodes)}
        nodes = np.array([place[choice] for choice in space.choices])
        columns = [np.log(space.weights), np.log(trials.signal + 1e-12), _level(trials)]
        if activations:
            columns += list(trials.activations.T)
        layers = np.stack([(column - column.mean()) / (column.std() + 1e-6) for column in columns], axis=1)
        numbers = np.zeros((count, layers.shape[1] + 3))
        numbers[:, 0] = np.arange(count) / max(1, count - 1) - 0.5
        numbers[:, 1] = np.abs(numbers[:, 0]) - 0.25
        numbers[nodes, 2] = 1
        numbers[nodes, 3:] = layers
        names = list(space.fields)
        texts = space.fields["role"]
        codes = space.codes[space.first, names.index("role")]
        own = np.array([roles.get(texts[code], 0) for code in codes])
        edges = np.concatenate([topology.edges, topology.edges[::-1]], axis=1)
        with np.errstate(divide="ignore"):
            logs = np.log(trials.errors / trials.errors.mean())
        tensors = (numbers, own, edges, nodes, np.maximum(logs, -60))
        floats = [torch.from_numpy(np.ascontiguousarray(array)) for array in tensors]
        return cls(floats[0].float(), floats[1], floats[2], floats[3], floats[4].float())


def _level(trials: Trials) -> Floats:
    errors = trials.errors / trials.signal[:, None]
    logs = np.log(np.where(errors > 0, errors, 1.0))
    return np.asarray(logs.sum(1) / np.maximum((errors > 0).sum(1), 1))


class Sensitivities(nn.Module):
    """The network: log sensitivities (choices,) of a graph, 0 before it has learnt."""

    def __init__(self, kind: Kind, numbers: int, roles: int, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        from torch_geometric.nn import GATv2Conv

        self.kind = kind
        self.role = nn.Embedding(roles, 8 if kind != "linear" else 1)
        nn.init.zeros_(self.role.weight)
        self.straight = nn.Linear(numbers, 1)
        self.first = nn.Linear(numbers + self.role.embedding_dim, _WIDTH)
        self.convs = nn.ModuleList(GATv2Conv(_WIDTH, _WIDTH) for _ in range(layers if kind == "graph" else 0))
        self.norms = nn.ModuleList(nn.LayerNorm(_WIDTH) for _ in self.convs)
        self.last = nn.Linear(_WIDTH, 1)
        self.drop = nn.Dropout(dropout)
        for linear in (self.straight, self.last):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, graph: Graph) -> Tensor:
        """Return the log of every choice's sensitivity."""
        role = self.role(graph.roles)
        found = self.straight(graph.numbers)[:, 0]
        if self.kind == "linear":
            return cast(Tensor, (found + role[:, 0])[graph.nodes])
        x = torch.relu(self.first(torch.cat([graph.numbers, role], dim=1)))
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = x + self.drop(torch.relu(conv(norm(x), graph.edges)))
        return cast(Tensor, (found + self.last(self.drop(x))[:, 0])[graph.nodes])


def train_shared(
    known: Sequence[tuple[Trials, Ints]],
    target: Trials,
    kind: Kind,
    *,
    activations: bool = True,
    steps: int = 150,
    members: int = 2,
    seed: int = 0,
) -> Floats:
    """Return log sensitivities (members, choices) of the target, as networks trained on other trials say.

    `known` are denoisers with the numbers of their trials; the target may be among them.
    """
    names = [text for trials, _ in known for text in trials.space.fields["role"]]
    roles = {name: i for i, name in enumerate(dict.fromkeys(["", *names]))}
    graphs = [Graph.of(trials, roles, activations) for trials, _ in known]
    own = Graph.of(target, roles, activations)
    seen = [graph.logs[torch.arange(len(graph.logs)), torch.from_numpy(trials.chosen[rows])]
            for graph, (trials, rows) in zip(graphs, known, strict=True)]  # fmt: skip
    targets = [torch.from_numpy(trials.y[rows]).float() for trials, rows in known]
    found = []
    for member in range(members):
        torch.manual_seed(1000 * seed + member)
        model = Sensitivities(kind, own.numbers.shape[1], len(roles))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            model.train()
            loss = torch.zeros(())
            for graph, logs, y in zip(graphs, seen, targets, strict=True):
                added = model(graph)
                loss = loss + _loss(logs + added, y) + 1e-3 * added.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            added = model(own).double().numpy()
        found.append(added - added.mean())
    return np.array(found)


def _loss(logs: Tensor, y: Tensor) -> Tensor:
    predicted = -DECIBELS * torch.logsumexp(logs, dim=1)
    rest = (y - y.mean()) - (predicted - predicted.mean())
    loss: Tensor = rest.square().mean() / y.var()
    return loss
