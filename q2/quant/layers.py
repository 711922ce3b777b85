"""Simulated quantization: layers that compute with the dequantized weight and remember how it was fitted."""

import functools
from typing import Any, TypeVar, cast

from torch import nn

from q2.errors import Q2Error
from q2.quant.base import Fitted
from q2.quant.options import NONE, Option

__all__ = ["Simulated", "fitted_of", "option_of", "plan_layer", "quantize_layer"]

M = TypeVar("M", bound=nn.Module)


class Simulated(nn.Module):
    """Mixed into a layer's own class: the layer's weight is `fitted.dequantize()`, or its option is planned for it."""

    option: Option
    fitted: Fitted | None
    exact_class: type[nn.Module]

    def extra_repr(self) -> str:
        """Show the option after the layer's own hyper-parameters."""
        return f"{super().extra_repr()}, option={self.option}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _blank, (self.exact_class,), vars(self).copy()


def quantize_layer(module: M, fitted: Fitted) -> M:
    """Return a layer like `module` whose weight is what `fitted` dequantizes to; `module` itself does not change.

    The new layer is an instance of a subclass of the module's class. It shares the bias and every other parameter and
    buffer, and has the hyper-parameters, training flag and hooks; the names in its state dict are the same. A weight of
    any shape (O, ...) will do, hence Linear, Conv1d, Conv2d and Conv3d, grouped or not. Raises `Q2Error` if the
    module has no weight of its own, one of another shape or on the meta device, or a forward that was replaced.

    >>> import torch
    >>> from q2.quant import fit
    >>> layer = nn.Linear(2, 1)
    >>> fitted_of(quantize_layer(layer, fit(layer.weight, "uaq-4"))).option
    Option(quantizer='uaq', bits=4)
    """
    exact = module.exact_class if isinstance(module, Simulated) else type(module)
    weight = module._parameters.get("weight")
    if weight is None:
        raise Q2Error(f"{exact.__name__} has no weight parameter of its own")
    if weight.is_meta:
        raise Q2Error(f"{exact.__name__} has no weights (device meta)")
    if weight.shape != fitted.shape:
        raise Q2Error(f"{exact.__name__} has a weight of shape {tuple(weight.shape)}, fitted is {tuple(fitted.shape)}")
    if "forward" in vars(module):
        raise Q2Error(f"{exact.__name__} has a replaced forward (accelerate's hook?), which would keep the old weight")
    layer = _like(module, exact)
    values = fitted.dequantize().to(weight.device, weight.dtype)
    layer._parameters["weight"] = nn.Parameter(values, requires_grad=weight.requires_grad)
    vars(layer).update(fitted=fitted, option=fitted.option)
    return cast(M, layer)


def plan_layer(module: M, option: Option) -> M:
    """Return a layer like `module` that says `option`: without values its size is known, its error is not.

    >>> layer = nn.Linear(2, 1, device="meta")
    >>> str(option_of(plan_layer(layer, Option.parse("uaq-4")))[0])
    'uaq-4'
    """
    layer = _like(module, module.exact_class if isinstance(module, Simulated) else type(module))
    vars(layer).update(fitted=None, option=option)
    return cast(M, layer)


def _like(module: nn.Module, exact: type[nn.Module]) -> Simulated:
    layer = _blank(exact)
    for name, value in vars(module).items():
        vars(layer)[name] = value.copy() if isinstance(value, dict) else value
    return layer


def fitted_of(module: nn.Module) -> Fitted | None:
    """Return what a layer's weight was quantized to, or None if it was not, or only planned to be.

    >>> fitted_of(nn.Linear(2, 1)) is None
    True
    """
    return module.fitted if isinstance(module, Simulated) else None


def option_of(module: nn.Module) -> tuple[Option, int]:
    """Return the option that a layer holds, ``none`` if it was not quantized, and its `prec`.

    >>> str(option_of(nn.Linear(2, 1))[0])
    'none'
    """
    if not isinstance(module, Simulated):
        return Option(NONE, 0), 16
    return module.option, module.fitted.prec if module.fitted else 16


@functools.cache
def _simulated(exact: type[nn.Module]) -> type[Simulated]:
    return type(f"Simulated{exact.__name__}", (Simulated, exact), {"exact_class": exact, "__module__": __name__})


def _blank(exact: type[nn.Module]) -> Simulated:
    """Return a simulated layer without any state, for copying or unpickling into."""
    kind = _simulated(cast(Any, exact))  # mypy takes a class for an instance that cannot be hashed
    return kind.__new__(kind)
