"""Puts modules into a model, where one sits at several places at all of them, and names the tensors that are saved."""

from collections.abc import Mapping

from torch import nn

__all__ = ["drop_shared", "put", "put_shared"]


def put(model: nn.Module, name: str, module: nn.Module, shared: Mapping[str, str]) -> None:
    """Replace a module by another, wherever it is shared; see `q2.graph.shared.shared_places`."""
    for place in (name, *(each for each, first in shared.items() if first == name)):
        owner, _, own = place.rpartition(".")
        setattr(model.get_submodule(owner), own, module)


def put_shared(model: nn.Module, shared: Mapping[str, str]) -> None:
    """Put the modules of the first names at the further ones too."""
    for place, first in shared.items():
        owner, _, own = place.rpartition(".")
        setattr(model.get_submodule(owner), own, model.get_submodule(first))


def drop_shared(names: list[str], shared: Mapping[str, str]) -> list[str]:
    """Return the names of tensors that do not lie in a module's further places.

    >>> drop_shared(["a.weight", "b.weight", "bc.weight"], {"b": "a"})
    ['a.weight', 'bc.weight']
    """
    heads = tuple(f"{place}." for place in shared)
    return [name for name in names if not name.startswith(heads)] if heads else names
