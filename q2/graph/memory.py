"""How many bytes of tensors a computation holds at its peak, by watching it run; on meta that takes no memory."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["peak_bytes"]


def peak_bytes(compute: Callable[[], object]) -> int:
    """Return the most bytes of tensors that `compute` makes and holds at one time, what it returns included.

    What is there before (weights, inputs) is not counted, nor is what kernels need for themselves. Attention counts as
    kernels compute it that keep no scores (FlashAttention, NeurIPS'22), which the CPU and GPUs of today have.

    >>> x = torch.empty(1000, device="meta")
    >>> peak_bytes(lambda: (x + 1).sum())
    4004
    """
    watch = _Watch()
    with torch.no_grad(), _Attention(), watch:
        compute()
    return watch.peak


class _Watch(TorchDispatchMode):
    """Counts the storages of tensors that operations return, until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.held = 0
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        args, named = _together(args, dict(kwargs or {}))
        given = {_key(leaf) for leaf in tree_leaves((args, named)) if isinstance(leaf, Tensor)}
        result = func(*args, **named)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and (key := _key(leaf)) not in given and key not in self._known:
                self._take(key, leaf.untyped_storage())
        return result

    def _take(self, key: int, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()

        def freed(_: object) -> None:
            del self._known[key]
            self.held -= size

        self._known[key] = weakref.ref(storage, freed)
        self.held += size
        self.peak = max(self.peak, self.held)


class _Attention(TorchFunctionMode):
    """Replaces scaled dot product attention on meta, which would hold all scores there."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is F.scaled_dot_product_attention:
            query = args[0] if args else given["query"]
            if query.is_meta:
                value = args[2] if len(args) > 2 else given["value"]
                return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **given)


def _together(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Bring tensors of the CPU, such as tables of positions, to meta beside ones that are there; numbers may stay."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not any(tensor.is_meta for tensor in tensors) or all(tensor.is_meta or not tensor.ndim for tensor in tensors):
        return args, kwargs
    moved: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(
        Tensor, lambda tensor: tensor if tensor.is_meta or not tensor.ndim else tensor.to("meta"), (args, kwargs)
    )
    return moved


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
