"""`with torch.autocast(...)` inside a forward: its beginning and end become nodes, so that the graph casts as well."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx
from torch.fx.node import has_side_effect

from q2.graph.tracing.surroundings import Recorder

__all__ = ["autocast_kept", "enter_autocast", "exit_autocast", "has_autocast", "recorded_autocast"]

_DEVICES = ("cpu", "cuda", "mps", "xpu")


@has_side_effect
def enter_autocast(device_type: str, *args: Any) -> torch.autocast:
    """Begin casting, as `torch.autocast` does with these arguments; returns what `exit_autocast` takes."""
    context = torch.autocast(device_type, *args)
    context.__enter__()
    return context


@has_side_effect
def exit_autocast(context: torch.autocast) -> None:
    """End casting."""
    context.__exit__(None, None, None)


def has_autocast(graph: fx.Graph) -> bool:
    """Return whether a graph casts."""
    return any(node.target is enter_autocast for node in graph.nodes)


@contextlib.contextmanager
def recorded_autocast(recorder: Recorder) -> Iterator[None]:
    """Make every autocast block of the traced model two nodes around the nodes of its body."""
    changed: Any = torch.autocast
    original = changed.__init__, changed.__enter__, changed.__exit__
    begin, enter, leave = original

    def init(
        self: Any, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        self.traced = (device_type, dtype, enabled, cache_enabled)
        begin(self, str(device_type), dtype, enabled, cache_enabled)

    def entered(self: Any) -> Any:
        if not recorder.recording:
            return enter(self)
        self.begun = recorder.create_proxy("call_function", enter_autocast, self.traced, {})
        return self

    def left(self: Any, *error: Any) -> Any:
        begun = self.__dict__.pop("begun", None)
        if begun is None:
            return leave(self, *error)
        if error[0] is not None:
            return begun.shadow_value.__exit__(*error)
        recorder.create_proxy("call_function", exit_autocast, (begun,), {})
        return None

    try:
        changed.__init__, changed.__enter__, changed.__exit__ = init, entered, left
        yield
    finally:
        changed.__init__, changed.__enter__, changed.__exit__ = original


@contextlib.contextmanager
def autocast_kept() -> Iterator[None]:
    """Put casting back as it was when a guard fails between a block's beginning and its end."""
    before = [(name, torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in _DEVICES]
    depth = _depth()
    try:
        yield
    except BaseException:
        for name, enabled, dtype in before:
            torch.set_autocast_enabled(name, enabled)
            torch.set_autocast_dtype(name, dtype)
        while _depth() > depth:
            torch.autocast_decrement_nesting()
        raise


def _depth() -> int:
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()
