"""Ties: weight layers that hold the same weights, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from q2.graph.fingerprint import fingerprint
from q2.graph.layers import WeightLayer

__all__ = ["same_weights"]


def same_weights(layers: Mapping[str, WeightLayer]) -> list[tuple[str, ...]]:
    """Return groups of two or more layers with equal weights, biases and geometry, in execution order.

    Published DiT checkpoints hold many copies of one timestep embedder. Layers without data (on meta) have no ties.
    """
    alike: dict[object, list[list[str]]] = {}
    for name, layer in layers.items():
        module = layer.module
        if any(tensor.is_meta for tensor in module.state_dict().values()):
            continue
        groups = alike.setdefault((layer.geometry, fingerprint(module)), [])
        group = next((group for group in groups if _equal(layers[group[0]], layer)), None)
        if group is None:
            groups.append([name])
        else:
            group.append(name)
    return [tuple(group) for groups in alike.values() for group in groups if len(group) > 1]


def _equal(first: WeightLayer, second: WeightLayer) -> bool:
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
