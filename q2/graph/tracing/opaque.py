"""Functions of torch that no proxy may enter: block masks and flex attention, each kept as one node of the graph."""

from __future__ import annotations

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch.nn.attention import flex_attention as flex

from q2.graph.tracing.surroundings import Recorder

__all__ = ["Opaque", "opaque_functions"]

_Function = Callable[..., Any]


class Opaque:
    """A node's target: call a function some of whose arguments are functions themselves.

    No node can hold a function. These are kept here, and the values that they captured become inputs of the node.
    """

    def __init__(self, function: _Function, functions: dict[int | str, types.FunctionType], shadow: _Function) -> None:
        self.__name__ = self.__qualname__ = function.__name__
        self.__module__ = __name__  # fx would look a name of torch up in torch
        self.shadow = functools.partial(self._call, shadow)
        self._function = function
        self._functions = functions

    def __call__(self, captured: Sequence[Sequence[Any]], *args: Any, **kwargs: Any) -> Any:
        """Call the function with its functions put back, each over the values that it captured."""
        return self._call(self._function, captured, *args, **kwargs)

    def _call(self, function: _Function, captured: Sequence[Sequence[Any]], /, *args: Any, **kwargs: Any) -> Any:
        arguments = dict(enumerate(args)) | kwargs
        for (place, inner), values in zip(self._functions.items(), captured, strict=True):
            arguments[place] = _over(inner, values)
        positional = [arguments.pop(i) for i in range(len(args))]
        return function(*positional, **cast("dict[str, Any]", arguments))


def _over(function: types.FunctionType, values: Sequence[Any]) -> types.FunctionType:
    cells = tuple(types.CellType(value) for value in values)
    return types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__, cells)


def _recorded(recorder: Recorder, original: _Function, shadow: _Function) -> _Function:
    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        if not recorder.recording:
            return original(*args, **kwargs)
        arguments: dict[int | str, Any] = dict(enumerate(args)) | kwargs
        functions = {place: value for place, value in arguments.items() if isinstance(value, types.FunctionType)}
        captured = [[cell.cell_contents for cell in inner.__closure__ or ()] for inner in functions.values()]
        kept = {place: None if place in functions else value for place, value in arguments.items()}
        target = Opaque(original, functions, shadow)
        positional = tuple(kept.pop(i) for i in range(len(args)))
        return recorder.create_proxy("call_function", target, (captured, *positional), cast("dict[str, Any]", kept))

    return replacement


def _attention_shadow(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


@contextlib.contextmanager
def opaque_functions(recorder: Recorder) -> Iterator[None]:
    """Make block masks and flex attention one node each, under whatever name a module has imported them."""
    replacements: dict[object, _Function] = {
        flex.create_block_mask: _recorded(recorder, flex.create_block_mask, flex.create_block_mask),
        flex.flex_attention: _recorded(recorder, flex.flex_attention, _attention_shadow),
    }
    wanted = {id(function) for function in replacements}
    found = [
        (module, name, value)
        for module in list(sys.modules.values())
        for name, value in list(getattr(module, "__dict__", {}).items())
        if id(value) in wanted
    ]
    masks: Any = flex.BlockMask
    from_blocks = vars(masks)["from_kv_blocks"]
    made = _recorded(recorder, flex.BlockMask.from_kv_blocks, flex.BlockMask.from_kv_blocks)
    try:
        for module, name, value in found:
            setattr(module, name, replacements[value])
        masks.from_kv_blocks = staticmethod(made)
        yield
    finally:
        masks.from_kv_blocks = from_blocks
        for module, name, value in found:
            setattr(module, name, value)
