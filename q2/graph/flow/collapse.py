"""Repeated blocks: which items of a module list are alike and follow each other, so that one can stand for all."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
from torch import nn

from q2.graph.flow.units import Unit

__all__ = ["LikeItems", "Repeats", "items"]


@dataclass(frozen=True)
class LikeItems:
    """Items `first` to `last` of a list that are alike; a single item is a run of one."""

    path: str
    first: int
    last: int

    @property
    def count(self) -> int:
        """How many items there are."""
        return self.last - self.first + 1

    @property
    def title(self) -> str:
        """The list's own name, with the indices that the run spans."""
        name = self.path.rpartition(".")[2]
        return f"{name} {self.first}" if self.count == 1 else f"{name} {self.first}–{self.last}  ×{self.count}"


class Repeats:
    """Find the runs of like items in every module list that the flow graph goes through."""

    def __init__(
        self,
        flow: nx.DiGraph[str],
        units: Iterable[Unit],
        model: nn.Module,
        apart: Collection[str] = (),
        shown: Mapping[str, object] | None = None,
    ) -> None:
        """Compare the items of every list; those in a list with an item of `apart` are runs of one.

        Items are alike if they hold the same layers, of which the same is `shown`, by flow node.
        """
        self.runs: dict[str, LikeItems] = {}
        self._signs: dict[str, list[object]] = defaultdict(list)
        self._span: dict[str, list[int]] = defaultdict(list)
        size = {unit.name: len(unit.layers) for unit in units}
        for name, data in flow.nodes(data=True):
            for item in items(name):
                self._span[item].append(data["order"])
                if data["kind"] == "weight":
                    shape = getattr(model.get_submodule(data["layer"]), "weight").shape  # noqa: B009
                    own = shown.get(name) if shown else None
                    self._signs[item].append((name.removeprefix(item), tuple(shape), data["channels"], own))
        for name, layers in size.items():
            for item in items(name):
                self._signs[item].append((name.removeprefix(item), layers))
        lists: dict[str, list[int]] = defaultdict(list)
        for item in self._span:
            path, _, index = item.rpartition(".")
            lists[path].append(int(index))
        for path, indices in lists.items():
            self._find(path, sorted(indices), any(f"{path}.{index}" in apart for index in indices))

    def _find(self, path: str, indices: Sequence[int], apart: bool) -> None:
        """Cut a list into runs; items with a single layer (the steps of a feed-forward) are no blocks."""
        if any(len(self._span[f"{path}.{i}"]) < 2 for i in indices):
            return
        start = indices[0]
        for before, after in [*pairwise(indices), (indices[-1], -1)]:
            if after < 0 or apart or not self._alike(f"{path}.{before}", f"{path}.{after}"):
                run = LikeItems(path, start, before)
                self.runs |= {f"{path}.{i}": run for i in range(start, before + 1)}
                start = after

    def _alike(self, first: str, second: str) -> bool:
        """Return whether two items hold the same, and nothing else comes between them."""
        adjacent = max(self._span[first]) + 1 >= min(self._span[second]) - 1
        return adjacent and self._signs[first] == self._signs[second]

    def canonical(self, path: str) -> str:
        """Return the path with every repeated item replaced by the first of its run."""
        found = ""
        for part in path.split("."):
            found = f"{found}.{part}".lstrip(".")
            run = self.runs.get(found)
            found = f"{run.path}.{run.first}" if run else found
        return found

    def short(self, path: str) -> str:
        """Return the path below the innermost block that it lies in."""
        blocks = [item for item in items(path) if item in self.runs]
        return path.removeprefix(f"{blocks[-1]}.") if blocks else path

    def crosses(self, first: str, second: str) -> bool:
        """Return whether two paths lie in different items of one run."""
        ours, theirs = ({id(self.runs[i]): i for i in items(path) if i in self.runs} for path in (first, second))
        return any(theirs.get(run, item) != item for run, item in ours.items())


def items(path: str) -> list[str]:
    """Return the list items that a path goes through, outermost first.

    >>> items("down_blocks.1.resnets.0.conv1")
    ['down_blocks.1', 'down_blocks.1.resnets.0']
    """
    return [path[: match.end()] for match in re.finditer(r"\.\d+(?=\.)", path)]
