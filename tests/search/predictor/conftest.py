"""One thread for tiny tensors, as for the graph's tests."""

from tests.graph.conftest import one_thread

__all__ = ["one_thread"]
