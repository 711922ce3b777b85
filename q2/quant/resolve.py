"""From an option to a fitted weight: finds the quantizer that the option names, and fits it."""

import importlib
from typing import TYPE_CHECKING, cast

from q2.errors import OptionError, there_are
from q2.plugins import BUILT_IN, Catalogue
from q2.plugins.builtin import QUANTIZERS
from q2.quant.options import Option

if TYPE_CHECKING:
    from torch import Tensor

    from q2.quant.base import FittedWeight, Quantizer

__all__ = ["builtin_quantizer", "fit", "known_option"]


def builtin_quantizer(name: str) -> "Quantizer":
    """Return the quantizer of this name that q2 ships. Raises `OptionError`, with the nearest name.

    >>> builtin_quantizer("kmeans-c").size_bits((16, 64), 3)
    5120
    """
    if name not in QUANTIZERS:
        raise OptionError(f"no quantizer named {name!r}{there_are(name, QUANTIZERS)}")
    module, _, attribute = QUANTIZERS[name].partition(":")
    return cast("type[Quantizer]", getattr(importlib.import_module(module), attribute))()


def known_option(text: str, quantizers: "Catalogue[Quantizer]") -> Option:
    """Read an option of the quantizers that there are; a plugin's quantizer is checked when it is first named.

    Raises `OptionError`, with the nearest name, for a quantizer that there is not or a width that it does not offer,
    `PluginError` for a quantizer that does not do what it must; see `check_quantizer`.
    """
    option = Option.parse(text, quantizers)
    owner = quantizers[option.quantizer].owner
    if owner != BUILT_IN:
        from q2.quant.check import check_quantizer

        kind = quantizers.load(option.quantizer)
        check_quantizer(kind, owner, option.quantizer)
        kind().check_width(option.bits)
    return option


def fit(
    weight: "Tensor", option: str | Option, *, prec: int = 16, quantizer: "Quantizer | None" = None
) -> "FittedWeight":
    """Quantize a weight of shape (O, I) or (O, I/groups, *kernel), float32, float16 or bfloat16, on any device.

    `prec` is the width in bits of codebooks, scales and zero points: 16 or 32. `quantizer` serves an option that q2
    does not ship. Raises `OptionError` for an option that is not offered, `Q2Error` for a weight without finite values.

    >>> import torch
    >>> fitted = fit(torch.tensor([[0.0, 1.0, 1.0, 0.0]]), "kmeans-c-1")
    >>> fitted.bits, fitted.mse, fitted.dequantize().tolist()
    (36, 0.0, [[0.0, 1.0, 1.0, 0.0]])
    """
    if quantizer is None:
        chosen = Option.parse(option, QUANTIZERS) if isinstance(option, str) else option
        quantizer = builtin_quantizer(chosen.quantizer)
    else:
        chosen = Option.parse(option, [quantizer.name]) if isinstance(option, str) else option
        if chosen.quantizer != quantizer.name:
            raise OptionError(f"the option '{chosen}' is not one of the quantizer {quantizer.name!r}")
    return quantizer.fit(weight, chosen.bits, prec)
