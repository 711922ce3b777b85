"""Where in a denoiser something is: its scope, stage, block, transformer and role, read off module paths."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

__all__ = ["Place", "Scopes", "scope"]

_CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)


def scope(node: fx.Node) -> str:
    """Return the path of the module whose forward made a node; empty for the model's own.

    >>> scope(fx.Graph().placeholder("x"))
    ''
    """
    stack = node.meta.get("nn_module_stack") or {}
    return str(next(reversed(stack.values()))[0]) if stack else ""


@dataclass(frozen=True)
class Place:
    """The position features of a layer: what the predictor sees of where it is.

    `stage` is the list of blocks (``down_blocks``, ``transformer_blocks``), empty outside any; `block` the index in it,
    `transformer` the index of the innermost repeated module within the block (the second transformer, the third
    ResBlock), both -1 where there is none; `role` the path from there on (``attn1.to_q``, ``conv1``).
    """

    stage: str
    block: int
    transformer: int
    role: str


class Scopes:
    """Find the place of any module path of one model."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._lists: dict[str, bool] = {}
        self._counts: dict[tuple[str, str], dict[str, int]] = {}

    def of(self, path: str) -> Place:
        """Return the place of a module; paths are best given in order, since transformers are counted as they come."""
        names = path.split(".")
        indexed = [i for i in range(1, len(names)) if names[i].isdigit() and self._repeats(".".join(names[:i]))]
        if not indexed:
            stage = names[0] if len(names) > 1 and names[0].endswith("_block") else ""
            return Place(stage, -1, -1, ".".join(names[1:] if stage else names))
        last, block = indexed[-1], int(names[1]) if indexed[0] == 1 else -1
        transformer, role = -1, ".".join(names[last + 1 :])
        if last > 1:
            root = 2 if block >= 0 else 1
            kind = ".".join(name for name in names[root:last] if not name.isdigit())
            seen = self._counts.setdefault((".".join(names[:root]), kind), {})
            transformer = seen.setdefault(".".join(names[: last + 1]), len(seen))
        return Place(names[0], block, transformer, role)

    def _repeats(self, path: str) -> bool:
        """Return whether a list holds blocks (modules with several layers) rather than the steps of one."""
        if path not in self._lists:
            module = self._model.get_submodule(path)
            items = list(module.children()) if isinstance(module, _CONTAINERS) else []
            self._lists[path] = bool(items) and all(_layers(item) > 1 for item in items)
        return self._lists[path]


def _layers(module: nn.Module) -> int:
    """Count the modules below that hold a weight of two dimensions or more."""
    weights = (getattr(inner, "weight", None) for inner in module.modules())
    return sum(weight is not None and weight.dim() > 1 for weight in weights)
