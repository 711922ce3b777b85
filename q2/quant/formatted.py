"""Layers whose input, weight and bias are rounded to number formats while they compute, and that can be trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from torch import Tensor, nn

from q2.quant.formats.base import Format
from q2.quant.formats.straight_through import fake_quantize
from q2.quant.options import NONE, Option
from q2.quant.simulated import Part, Quantized, like

__all__ = ["Formats", "Formatted", "format_layer", "formats_of", "unformat_layer"]

M = TypeVar("M", bound=nn.Module)
_INPUTS = ("input", "x", "query", "key", "value")


@dataclass(frozen=True)
class Formats:
    """The number formats of a layer: of its input, its weights and its biases; None leaves these as they are."""

    data_in: Format | None = None
    weight: Format | None = None
    bias: Format | None = None

    def of(self, parameter: str) -> Format | None:
        """Return the format of a parameter by its name: what ends with ``bias`` is a bias, all others are weights."""
        return self.bias if parameter.endswith("bias") else self.weight

    def __str__(self) -> str:
        named = {"data_in": self.data_in, "weight": self.weight, "bias": self.bias}
        return ", ".join(f"{name} {form}" for name, form in named.items() if form is not None)


class Formatted(Quantized):
    """Mixed into a layer's own class: reading a parameter gives its values in the format, with a gradient through it.

    The parameters stay at full precision, and those of the original layer: names, state dict and optimizers see them.
    Integer inputs, such as an embedding's indices, stay.
    """

    formats: Formats

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if not isinstance(found, nn.Parameter):
            return found
        form = cast(Formats, self.__dict__["formats"]).of(name)
        return found if form is None else fake_quantize(found, form)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the layer does, from an input in the format."""
        first = tuple(self._rounded(each) for each in args)
        named = {name: self._rounded(each) if name in _INPUTS else each for name, each in kwargs.items()}
        return super().forward(*first, **named)

    def _rounded(self, value: Any) -> Any:
        form = self.formats.data_in
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return fake_quantize(value, form) if form is not None and floating else value

    def extra_repr(self) -> str:
        """Show the formats after the layer's own hyper-parameters."""
        return f"{self.exact_class.extra_repr(self)}, {self.formats}"


def format_layer(module: M, formats: Formats) -> M:
    """Return a layer like `module`, of a subclass of its class, that computes in `formats`.

    It shares every parameter and buffer with `module`, which does not change. Modules inside (the output projection of
    an attention) get the same weight and bias.

    >>> import torch
    >>> from q2.quant.formats import Integer
    >>> layer = nn.Linear(2, 1)
    >>> formatted = format_layer(layer, Formats(weight=Integer(8, 4)))
    >>> bool((formatted.weight * 16 % 1 == 0).all()), formatted._parameters["weight"] is layer.weight
    (True, True)
    """
    layer = like(module, Formatted)
    vars(layer).update(parts=(Part(Option(NONE, 0)),), formats=formats)
    inner = Formats(None, formats.weight, formats.bias)
    for name, child in module.named_children():
        layer._modules[name] = format_layer(child, inner)
    return cast(M, layer)


def unformat_layer(module: M) -> M:
    """Return a layer of the class that a formatted one had before, with its parameters at full precision."""
    if not isinstance(module, Formatted):
        return module
    layer = module.exact_class.__new__(module.exact_class)
    state: Mapping[str, Any] = {name: each for name, each in vars(module).items() if name not in ("parts", "formats")}
    vars(layer).update({name: each.copy() if isinstance(each, dict | set) else each for name, each in state.items()})
    for name, child in module.named_children():
        layer._modules[name] = unformat_layer(child)
    return cast(M, layer)


def formats_of(module: nn.Module) -> Formats:
    """Return the formats of a layer; none of any other."""
    return module.formats if isinstance(module, Formatted) else Formats()
