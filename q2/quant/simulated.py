"""Simulated quantization: layers that compute with the dequantized weight and remember how it was fitted."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from q2.errors import Q2Error
from q2.quant.base import Fitted, FittedWeight
from q2.quant.options import NONE, Option

__all__ = [
    "Part",
    "Quantized",
    "Simulated",
    "like",
    "parts_of",
    "plan_layer",
    "quantize_layer",
    "quantize_parts",
    "switch_layer",
]

M = TypeVar("M", bound=nn.Module)
Q = TypeVar("Q", bound="Quantized")


@dataclass(frozen=True)
class Part:
    """The option of a layer, or of a range of its input channels, and how it was fitted if it was."""

    option: Option
    fitted: Fitted | None = None
    channels: tuple[int, int] | None = None

    def of(self, weight: Tensor) -> Tensor:
        """Return the part of a weight (O, I, ...) that this is about; a view."""
        return weight if self.channels is None else weight[:, self.channels[0] : self.channels[1]]

    def of_shape(self, shape: Sequence[int]) -> torch.Size:
        """Return the shape that this part has of a weight of `shape`.

        >>> Part(Option.parse("uaq-4"), channels=(8, 12)).of_shape((5, 12, 3, 3))
        torch.Size([5, 4, 3, 3])
        """
        rows, inputs, *kernel = shape
        return torch.Size((rows, self.channels[1] - self.channels[0] if self.channels else inputs, *kernel))


_PLAIN = (Part(Option(NONE, 0)),)


class Quantized(nn.Module):
    """Mixed into a layer's own class: what the layer's weight was quantized to, or is planned to be, part by part."""

    parts: tuple[Part, ...]
    exact_class: type[nn.Module]
    mixin: type["Quantized"]

    def extra_repr(self) -> str:
        """Show the option after the layer's own hyper-parameters."""
        return f"{super().extra_repr()}, option={' + '.join(str(part.option) for part in self.parts)}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (self.mixin, self.exact_class), vars(self).copy()


class Simulated(Quantized):
    """Mixed into a layer's own class: the weight is the quantized one, in the dtype it had."""

    exact: Tensor | None
    """The full-precision weight, where it is kept."""


def quantize_layer(module: M, fitted: FittedWeight) -> M:
    """Return a layer like `module` whose weight is what `fitted` dequantizes to; `module` itself does not change.

    See `quantize_parts`.

    >>> from q2.quant import fit
    >>> layer = nn.Linear(2, 1)
    >>> parts_of(quantize_layer(layer, fit(layer.weight, "uaq-4")))[0].option
    Option(quantizer='uaq', bits=4)
    """
    return quantize_parts(module, [Part(fitted.option, fitted.without_weight())], fitted.weight)


def quantize_parts(module: M, parts: Sequence[Part], exact: Tensor, *, keep: bool = False) -> M:
    """Return a layer like `module` whose weight is the quantized `exact` one; `module` itself does not change.

    The new layer is an instance of a subclass of the module's class. It shares the bias and every other parameter and
    buffer, and has the hyper-parameters, training flag and hooks; the names in its state dict are the same. A weight of
    any shape (O, ...) will do, hence Linear, Conv1d, Conv2d and Conv3d, grouped or not. With `keep` the layer remembers
    `exact`, which must not change then, so that it can be switched where no file has it. Raises `Q2Error` if the
    module has no weight of its own, one of another shape or on the meta device, or a forward that was replaced.
    """
    kind = module.exact_class if isinstance(module, Quantized) else type(module)
    weight = module._parameters.get("weight")
    if weight is None:
        raise Q2Error(f"{kind.__name__} has no weight parameter of its own")
    if weight.is_meta:
        raise Q2Error(f"{kind.__name__} has no weights (device meta)")
    if weight.shape != exact.shape:
        raise Q2Error(f"{kind.__name__} has a weight of shape {tuple(weight.shape)}, fitted is {tuple(exact.shape)}")
    if "forward" in vars(module):
        raise Q2Error(f"{kind.__name__} has a replaced forward (accelerate's hook?), which would keep the old weight")
    layer = like(module, Simulated)
    held = nn.Parameter(torch.empty_like(weight), requires_grad=weight.requires_grad)
    layer._parameters["weight"] = held
    _write(held, parts, exact)
    vars(layer).update(parts=tuple(parts), exact=exact.detach() if keep else None)
    return cast(M, layer)


def switch_layer(module: nn.Module, parts: Sequence[Part], exact: Tensor) -> None:
    """Turn a simulated layer into what `quantize_parts` would make of it, in place: only parts that differ are written.

    >>> from q2.quant import fit
    >>> layer, exact = nn.Linear(2, 1), torch.tensor([[1.0, 2.0]])
    >>> layer = quantize_layer(layer, fit(exact, "uaq-1"))
    >>> switch_layer(layer, [Part(Option.parse("none"))], exact)
    >>> layer.weight.tolist()
    [[1.0, 2.0]]
    """
    assert isinstance(module, Simulated)
    held = cast(Tensor, module.weight)
    changed = [part for part in parts if part not in module.parts]
    _write(held, changed, exact)
    module.parts = tuple(parts)


def plan_layer(module: M, parts: Sequence[Part]) -> M:
    """Return a layer like `module` that says what its `parts` will be: their sizes are known, their errors are not.

    >>> layer = nn.Linear(2, 1, device="meta")
    >>> str(parts_of(plan_layer(layer, [Part(Option.parse("uaq-4"))]))[0].option)
    'uaq-4'
    """
    layer = like(module, Simulated)
    vars(layer).update(parts=tuple(parts), exact=None)
    return cast(M, layer)


def parts_of(module: nn.Module) -> tuple[Part, ...]:
    """Return what a layer's weight was quantized to, or planned to be, part by part; ``none`` for any other layer.

    >>> str(parts_of(nn.Linear(2, 1))[0].option)
    'none'
    """
    return module.parts if isinstance(module, Quantized) else _PLAIN


@torch.no_grad()
def _write(held: Tensor, parts: Sequence[Part], exact: Tensor) -> None:
    for part in parts:
        values, mine = part.of(exact), part.of(held.detach())  # threads of their own know nothing of no_grad
        quantized = part.fitted.restore(values, mine) if part.fitted else values
        if quantized is not mine:
            mine.copy_(quantized)


def like(module: nn.Module, mixin: type[Q]) -> Q:
    """Return a layer of the module's class with `mixin` mixed in, and with its parameters, buffers, hooks and names."""
    layer = _blank(mixin, module.exact_class if isinstance(module, Quantized) else type(module))
    for name, value in vars(module).items():
        vars(layer)[name] = value.copy() if isinstance(value, dict | set) else value
    return layer


@functools.cache
def _mixed(mixin: type[Q], exact: type[nn.Module]) -> type[Q]:
    names = {"mixin": mixin, "exact_class": exact, "__module__": mixin.__module__}
    return type(f"{mixin.__name__}{exact.__name__}", (mixin, exact), names)


def _blank(mixin: type[Q], exact: type[nn.Module]) -> Q:
    """Return a layer without any state, for copying or unpickling into."""
    kind = _mixed(cast(Any, mixin), cast(Any, exact))  # mypy takes a class for an instance that cannot be hashed
    return cast(Q, cast(Any, kind).__new__(kind))
