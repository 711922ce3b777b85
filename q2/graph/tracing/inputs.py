"""The arguments of a model call: bound to the forward's signature, flattened, told apart into symbolic and static."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils import _pytree as pytree

from q2.errors import TraceError, did_you_mean

__all__ = ["Call", "CallShape", "check_names", "forward_signature"]


def forward_signature(model: nn.Module) -> inspect.Signature:
    """Return the signature of the model's class's forward, without `self`."""
    signature = inspect.signature(type(model).forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def check_names(model: nn.Module, names: Mapping[str, object]) -> None:
    """Raise TraceError for an input that the model does not take, or for one that it needs and that is missing."""
    parameters = forward_signature(model).parameters
    title = f"trace {type(model).__name__}"
    kinds = {parameter.kind for parameter in parameters.values()}
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for name in names:
            if name not in parameters:
                raise TraceError(f"{title}: unknown input {name!r}{did_you_mean(name, list(parameters))}")
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for name, parameter in parameters.items():
        if name not in names and parameter.default is parameter.empty and parameter.kind not in variadic:
            raise TraceError(f"{title}: missing input {name!r}")


_VALUES = (torch.Tensor, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, slice, type(None))


def is_symbolic(leaf: object) -> bool:
    """Return whether an argument stays open in the graph: tensors and numbers do, flags, strings and None do not."""
    return isinstance(leaf, (torch.Tensor, int, float)) and not isinstance(leaf, bool)


@dataclass(frozen=True)
class CallShape:
    """Describes the calls that one traced variant fits: structure, tensor ranks, kinds of numbers, values of flags."""

    structure: pytree.TreeSpec
    leaves: tuple[object, ...]

    def __deepcopy__(self, memo: dict[int, object]) -> CallShape:
        return self  # a description, which nobody changes

    def accepts(self, other: CallShape) -> bool:
        """Return whether a call of the other shape may run on a graph that was traced with this one."""
        return (
            len(self.leaves) == len(other.leaves)
            and all(map(_same, self.leaves, other.leaves))
            and bool(self.structure == other.structure)
        )


@dataclass(frozen=True)
class _Symbolic:
    kind: type
    rank: int


def _describe(leaf: object) -> object:
    if isinstance(leaf, torch.Tensor):
        return _Symbolic(torch.Tensor, leaf.ndim)
    return _Symbolic(type(leaf), 0) if is_symbolic(leaf) else leaf


def _same(traced: object, called: object) -> bool:
    if traced is called:
        return True
    try:
        return type(traced) is type(called) and bool(traced == called)
    except (TypeError, ValueError, RuntimeError):  # objects that cannot be compared are different
        return False


@dataclass(frozen=True)
class Call:
    """One call of a model: its arguments flattened, `return_dict` set apart (a graph serves both)."""

    names: tuple[str, ...]
    leaves: tuple[object, ...]
    structure: pytree.TreeSpec
    return_dict: bool

    @classmethod
    def bind(cls, signature: inspect.Signature, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Call:
        """Bind arguments as Python would; raises TypeError when they do not fit the signature."""
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = dict(bound.arguments)
        return_dict = bool(arguments.pop("return_dict", True))
        paths, structure = pytree.tree_flatten_with_path(arguments)
        names = tuple(re.sub(r"\W+", "_", pytree.keystr(path)).strip("_") for path, _ in paths)
        return cls(names, tuple(leaf for _, leaf in paths), structure, return_dict)

    @property
    def shape(self) -> CallShape:
        """What a variant must have been traced with to serve this call."""
        return CallShape(self.structure, tuple(map(_describe, self.leaves)))

    @property
    def symbolic(self) -> tuple[object, ...]:
        """The tensors and numbers among the leaves, in placeholder order."""
        return tuple(leaf for leaf in self.leaves if is_symbolic(leaf))

    @property
    def sizes(self) -> tuple[object, ...]:
        """A cheap key for remembering which variant served a call: tensor shapes."""
        return tuple(tuple(leaf.shape) for leaf in self.leaves if isinstance(leaf, torch.Tensor))

    def check(self, title: str) -> None:
        """Raise TraceError for an object that is no value: a graph could neither hold it nor see what is written there.

        `title` names the model.
        """
        for name, leaf in zip(self.names, self.leaves, strict=True):
            if not isinstance(leaf, _VALUES):
                found = type(leaf).__name__
                raise TraceError(f"trace {title}: input {name!r} is a {found}, an object that no graph can hold")

    def arguments(self, leaves: tuple[object, ...], signature: inspect.Signature) -> inspect.BoundArguments:
        """Put leaves back into arguments of the forward; `return_dict`, where there is one, is True."""
        arguments: dict[str, object] = pytree.tree_unflatten(list(leaves), self.structure)
        if "return_dict" in signature.parameters:
            arguments["return_dict"] = True
        ordered = {name: arguments[name] for name in signature.parameters if name in arguments}
        return inspect.BoundArguments(signature, ordered)
