"""A pretended accelerator: the device ``pretend``, whose tensors lie in the CPU's memory and are not on the CPU.

PyTorch's dispatcher hands every operation on it to `_run`, in any thread, with or without modes of others. There every
rule of CUDA that a CPU cannot show is checked: the tensors of an operation are on one device (but a scalar, or an
index, of the CPU), a generator is on the device that draws, and no operation that CUDA lacks is asked for. `.numpy()`
of such a tensor raises, as of one on CUDA; `counted` says how often the host waited for a value.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration

__all__ = ["IS_POSSIBLE", "NAME", "WrongDeviceError", "counted", "register"]

NAME = "pretend"
_setup: Any = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
IS_POSSIBLE = _setup is not None
"""Whether this PyTorch lets Python be a device's backend; the first that q2 takes do not."""
_LACKING = frozenset({"histogram", "_histogramdd_bin_edges", "_histogramdd_from_bin_cts", "geqrf"})
_PRODUCTS = frozenset({"mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot", "addbmm"})
_ACROSS = frozenset({"copy_", "_to_copy", "_local_scalar_dense", "set_data", "_copy_from"})
_INDEXED = frozenset({"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"})
_RESIZED = ("arange", "arange.start", "arange.start_step", "eye", "eye.m", "randperm", "randperm.generator")
_OWN = (*_RESIZED, "copy_", "_to_copy", "_local_scalar_dense")  # or torch would change a shape, or skip `_run`
_counts: list[Counter[str]] = []


class WrongDeviceError(RuntimeError):
    """An operation that CUDA would refuse."""


class Pretended(Tensor):
    """A tensor of the device: `held` has its values."""

    held: Tensor
    __torch_function__: Any = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool | None = None) -> Pretended:
        if requires_grad is not None:  # accelerate makes a parameter again
            return torch.nn.Parameter(held, requires_grad)  # type: ignore[return-value]
        place = torch.device(NAME, 0)
        strides, offset = held.stride(), held.storage_offset()
        made = Tensor._make_wrapper_subclass(cls, held.size(), strides, offset, dtype=held.dtype, device=place)
        made.held = held
        return made

    def __init__(self, held: Tensor, requires_grad: bool | None = None) -> None:
        """See `__new__`."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, *args, **(kwargs or {}))

    def as_subclass(self, cls: Any) -> Any:
        """Return itself: a tensor that is a wrapper already cannot be of another class too."""
        return self

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if force:
            return self.cpu().numpy()
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.numpy()

    def __format__(self, spec: str) -> str:
        return format(self.held, spec)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        memo[id(self)] = copied
        return copied


class _Module:
    """What `torch.pretend` has; `numbers` is the state of the device's random numbers."""

    numbers = torch.Generator().manual_seed(1).get_state()

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        _Module.numbers = torch.Generator().manual_seed(seed + 1).get_state()

    def empty_cache(self) -> None:
        pass

    def synchronize(self, *device: Any) -> None:
        pass

    def get_rng_state(self, device: Any = 0) -> Tensor:
        return _Module.numbers

    def set_rng_state(self, state: Tensor, device: Any = 0) -> None:
        _Module.numbers = state

    _lazy_init = init = empty_cache
    set_device = synchronize

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


@functools.cache
def register() -> tuple[torch.library.Library, ...]:
    """Make the device known to torch, once in a process."""
    _setup(NAME, backend_module=_Module())
    libraries = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    libraries[0].fallback(_run, "PrivateUse1")
    for name in _OWN:
        packet, _, overload = name.partition(".")
        func = getattr(getattr(torch.ops.aten, packet), overload or "default")
        libraries[1].impl(name, functools.partial(_run, func), "PrivateUse1")
    return libraries


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the operations on the device, by name; ``_local_scalar_dense`` is `.item()`."""
    mine: Counter[str] = Counter()
    _counts.append(mine)
    try:
        yield mine
    finally:
        _counts.remove(mine)


def _run(func: Any, *args: Any, **kwargs: Any) -> Any:
    name = func._schema.name.removeprefix("aten::")
    for each in _counts:
        each[name] += 1
    held: dict[int, Pretended] = {}  # by what holds their values
    tensors: list[Tensor] = []
    device, named = kwargs.get("device"), {key: _opened(value, held, tensors) for key, value in kwargs.items()}
    here = [_opened(value, held, tensors) for value in args]
    generators = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Generator)]
    _check(name, tensors, args, generators)
    if isinstance(device, torch.device) and device.type == NAME:
        named["device"] = torch.device("cpu")
    if named.pop("pin_memory", None):
        raise WrongDeviceError(f"{name}: only memory of the CPU can be pinned")
    with _own_numbers() if torch.Tag.nondeterministic_seeded in func.tags else nullcontext():
        found = func(*here, **named)
    if isinstance(device, torch.device) and device.type != NAME:
        return found
    if name in ("copy_", "_copy_from") and not isinstance(args[0], Pretended):
        return args[0]
    mutable = func._schema.is_mutable
    if isinstance(found, Tensor):
        return _wrapped(name, found, held, mutable)
    if isinstance(found, (list, tuple)):
        return type(found)(_wrapped(name, each, held, mutable) if isinstance(each, Tensor) else each for each in found)
    return found


@contextmanager
def _own_numbers() -> Iterator[None]:
    """Draw from the device's own random numbers, which are not the CPU's for any seed."""
    mine = torch.get_rng_state()
    torch.set_rng_state(_Module.numbers)
    try:
        yield
    finally:
        _Module.numbers = torch.get_rng_state()
        torch.set_rng_state(mine)


def _opened(value: Any, held: dict[int, Pretended], tensors: list[Tensor]) -> Any:
    """Return an argument with the CPU's tensors in place of those on the device; operations nest lists at most once."""
    if isinstance(value, Tensor):
        tensors.append(value)
        if isinstance(value, Pretended):
            held[id(value.held)] = value
            return value.held
        return value
    if isinstance(value, (list, tuple)) and any(isinstance(each, Tensor) for each in value):
        return [_opened(each, held, tensors) for each in value]
    return value


def _wrapped(name: str, tensor: Tensor, held: dict[int, Pretended], mutable: bool) -> Tensor:
    """Return a result on the device: what an operation wrote to, itself."""
    whole = held.get(id(tensor)) if mutable else None
    if whole is None:
        return Pretended(tensor)
    if whole.shape != tensor.shape:
        raise WrongDeviceError(f"{name}: the pretended device cannot change the shape of what it writes to")
    return whole


def _check(name: str, tensors: list[Tensor], args: Any, generators: list[torch.Generator]) -> None:
    if name in _LACKING:
        raise WrongDeviceError(f"{name} is not there on CUDA")
    if name in _PRODUCTS and not all(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors):
        raise WrongDeviceError(f"{name} of {tensors[0].dtype} is not there on CUDA")
    for generator in generators:
        if generator.device.type != NAME:
            raise WrongDeviceError(f"{name}: expected a generator on {NAME}, found one on {generator.device}")
    if name in _ACROSS:
        return
    others = [tensor for tensor in tensors if not isinstance(tensor, Pretended)]
    if not others or len(others) == len(tensors):
        return
    if name in _INDEXED and isinstance(args[0], Pretended):
        others = [tensor for tensor in others if not any(tensor is each for each in args[1])]
    strange = [tensor for tensor in others if tensor.ndim]
    if strange:
        shapes = ", ".join(f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors)
        raise WrongDeviceError(f"{name}: expected all tensors on one device, found {shapes}")
