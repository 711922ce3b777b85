"""The six denoisers at full size on the meta device, traced once for all tests."""

from functools import cache

from q2.graph import Graph, trace
from tests.graph.tiny import FAMILIES


@cache
def full_size(name: str) -> Graph:
    family = FAMILIES[name]
    return trace(family.build(full=True, device="meta"), family.example(full=True, device="meta"))
