"""The proxy of the tracer: a symbolic value that also carries a concrete one, so that Python control flow can run."""

from __future__ import annotations

import functools
import inspect
import math
import operator
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import fx

__all__ = ["Concretizer", "ShadowProxy", "TracedString", "shadow_of"]

_RANK_AND_KIND = frozenset({"ndim", "layout", "requires_grad", "is_sparse", "is_quantized", "is_nested"})
_RANK_METHODS = frozenset({"dim", "ndimension"})
_DICT_METHODS = frozenset({"copy", "get", "items", "pop", "values"})


def shadow_of(value: object) -> object:
    """Return the concrete value that a proxy carries; anything else is its own."""
    if type(value) is TracedString:
        return str(value)
    return value.shadow_value if type(value) is ShadowProxy else value


class TracedString(str):
    """A string read off a traced value (`x.device.type`): real for whoever needs one, guarded where it is compared."""

    proxy: ShadowProxy

    def __new__(cls, value: str, proxy: ShadowProxy) -> TracedString:
        """Join a string and the node that gives it."""
        self = super().__new__(cls, value)
        self.proxy = proxy
        return self

    def __eq__(self, other: object) -> bool:
        return bool(self.proxy == shadow_of(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __contains__(self, part: object) -> bool:
        return bool(self.proxy.tracer.create_proxy("call_function", operator.contains, (self.proxy, part), {}))

    def startswith(self, *args: Any) -> bool:
        """Say, under a guard, whether the string starts so."""
        return bool(self.proxy.tracer.create_proxy("call_method", "startswith", (self.proxy, *args), {}))


class Concretizer(fx.Tracer):
    """A tracer that gives Python the real values that proxies carry, and guards them; see `q2.graph.tracing.tracer`."""

    @abstractmethod
    def concrete(self, proxy: ShadowProxy, convert: type[bool] | type[int] | type[float]) -> bool | int | float:
        """Give Python the real value it asks for; the graph gets a guard that it is the same when run."""

    @abstractmethod
    def concrete_length(self, proxy: ShadowProxy) -> int:
        """Give Python a length, which is guarded unless it is a rank."""


class ShadowProxy(fx.Proxy):
    """A node of the growing graph, and the value that the node has for the example inputs.

    Operations become nodes. Where Python needs a real value (`if`, `range`, `int`) the shadow gives it, and the tracer
    records a guard. Ranks and kinds are given away without one: the inputs' own are checked before a variant runs.
    """

    shadow_value: Any
    tracer: Concretizer

    def __init__(self, node: fx.Node, tracer: Concretizer) -> None:
        super().__init__(node, tracer)
        self._parts: dict[object, ShadowProxy] = {}

    @property  # type: ignore[misc]  # mypy wants a setter
    def __class__(self) -> type:
        """Answer isinstance() as the shadow would."""
        value = self.__dict__.get("shadow_value")
        return torch.Tensor if isinstance(value, torch.Tensor) else type(value)

    def __getattr__(self, name: str) -> Any:
        if name == "shadow_value" or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        value = self.shadow_value
        if isinstance(value, dict) and name in _DICT_METHODS:
            return getattr({key: self[key] for key in value}, name)
        found = getattr(value, name)  # a missing attribute raises here as it would on the value
        if isinstance(found, str):
            return TracedString(found, self._part((getattr, name)))
        if name in _RANK_METHODS or (name in _RANK_AND_KIND and isinstance(value, torch.Tensor)) or found is None:
            return found
        if inspect.isroutine(found):
            return functools.partial(self._method, name)
        return self._part((getattr, name))

    def _method(self, name: str, /, *args: object, **kwargs: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_method", name, (self, *args), kwargs)

    def _call(self, function: Callable[..., Any], *args: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, *args), {})

    def _part(self, key: tuple[Callable[..., Any], object]) -> ShadowProxy:
        """Read an attribute or an item once, however often the model does."""
        if key not in self._parts:
            self._parts[key] = cast("ShadowProxy", self._call(*key))
        return self._parts[key]

    def __getitem__(self, key: Any) -> Any:
        value = self.shadow_value
        if isinstance(value, torch.Tensor) or not isinstance(key, (int, str)):
            return self._call(operator.getitem, key)
        plain = operator.index(key) if isinstance(key, int) else str(key)
        if value[plain] is None:
            return None
        if isinstance(plain, int) and plain < 0 and not isinstance(value, dict):
            plain += len(value)
        return self._part((operator.getitem, plain))

    def __setitem__(self, key: object, value: object) -> None:
        self._call(operator.setitem, key, value)

    # Where Python needs a real value:

    def __bool__(self) -> bool:
        return cast("bool", self.tracer.concrete(self, bool))

    def __int__(self) -> int:
        return cast("int", self.tracer.concrete(self, int))

    def __index__(self) -> int:
        if not isinstance(self.shadow_value, torch.Tensor):
            operator.index(self.shadow_value)  # a float is no index: raise as Python does
        return cast("int", self.tracer.concrete(self, int))

    def __float__(self) -> float:
        return cast("float", self.tracer.concrete(self, float))

    def __trunc__(self) -> int:
        return int(self)

    def __len__(self) -> int:
        return self.tracer.concrete_length(self)

    def __iter__(self) -> Iterator[Any]:
        if isinstance(self.shadow_value, dict):
            keys: list[object] = list(self.shadow_value)
            return iter(keys)
        return iter([self[i] for i in range(len(self))])

    def __reversed__(self) -> Iterator[Any]:
        items: list[object] = list(self)
        return reversed(items)

    def __contains__(self, item: object) -> bool:
        if isinstance(self.shadow_value, dict):
            return item in self.shadow_value
        if isinstance(self.shadow_value, (list, tuple)):
            return any(own is item or bool(own == item) for own in self)
        return bool(self._call(operator.contains, item))

    def __hash__(self) -> int:
        return hash(self.shadow_value) if isinstance(self.shadow_value, (str, torch.dtype, torch.device)) else id(self)

    def __str__(self) -> str:
        return repr(self) if isinstance(self.shadow_value, torch.Tensor) else str(self.shadow_value)

    def __format__(self, spec: str) -> str:
        return format(str(self) if isinstance(self.shadow_value, torch.Tensor) else self.shadow_value, spec)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if isinstance(self.shadow_value, torch.Tensor):
            raise TypeError("a NumPy function asks for the values of a traced tensor")
        return np.asarray([own.__array__() for own in self] if _is_sequence(self) else self._number(), dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: object, **kwargs: object) -> object:
        numbers = [arg._number() if type(arg) is ShadowProxy else arg for arg in args]
        return getattr(ufunc, method)(*numbers, **kwargs)

    def _number(self) -> int | float:
        return int(self) if isinstance(self.shadow_value, int) else float(self)

    # What fx.Proxy leaves out:

    def keys(self) -> Any:
        """Return a mapping's keys, which are structure; `**proxy` asks for them."""
        return self.shadow_value.keys() if isinstance(self.shadow_value, dict) else self._method("keys")

    def __round__(self, digits: int | None = None) -> Any:
        return self._call(round) if digits is None else self._call(round, digits)

    def __floor__(self) -> Any:
        return self._call(math.floor)

    def __ceil__(self) -> Any:
        return self._call(math.ceil)

    def __divmod__(self, other: object) -> tuple[Any, Any]:
        return self._call(operator.floordiv, other), self._call(operator.mod, other)

    def _in_place(self, written: Callable[..., Any], plain: Callable[..., Any], other: object) -> fx.Proxy:
        return self._call(written if isinstance(self.shadow_value, (torch.Tensor, list)) else plain, other)

    def __iadd__(self, other: object) -> Any:
        return self._in_place(operator.iadd, operator.add, other)

    def __isub__(self, other: object) -> Any:
        return self._in_place(operator.isub, operator.sub, other)

    def __imul__(self, other: object) -> Any:
        return self._in_place(operator.imul, operator.mul, other)

    def __itruediv__(self, other: object) -> Any:
        return self._in_place(operator.itruediv, operator.truediv, other)

    def __ifloordiv__(self, other: object) -> Any:
        return self._in_place(operator.ifloordiv, operator.floordiv, other)

    def __ipow__(self, other: object) -> Any:
        return self._in_place(operator.ipow, operator.pow, other)

    def __iand__(self, other: object) -> Any:
        return self._in_place(operator.iand, operator.and_, other)

    def __ior__(self, other: object) -> Any:
        return self._in_place(operator.ior, operator.or_, other)

    def __ixor__(self, other: object) -> Any:
        return self._in_place(operator.ixor, operator.xor, other)


def _is_sequence(proxy: ShadowProxy) -> bool:
    return isinstance(proxy.shadow_value, (list, tuple))
