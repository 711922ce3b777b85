"""Modules that sit at several places of a model: whatever replaces one does so at every place."""

from torch import nn

__all__ = ["shared_places"]


def shared_places(model: nn.Module) -> dict[str, str]:
    """Return the further names of modules with weights that have several, each with the first name.

    Of a block at two places the block alone is named, not the layers in it.

    >>> layer = nn.Linear(1, 1)
    >>> shared_places(nn.ModuleDict({"a": layer, "b": layer}))
    {'b': 'a'}
    """
    first: dict[int, str] = {}
    found: dict[str, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if any(name.startswith(f"{place}.") for place in found):
            continue
        if id(module) in first and module.state_dict():
            found[name] = first[id(module)]
        first.setdefault(id(module), name)
    return found
