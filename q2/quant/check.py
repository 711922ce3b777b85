"""Checks of a plugin's quantizer on a few tiny weights, before any long computation with it."""

import inspect
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import get_args

import torch
from torch import Tensor

from q2.errors import PluginError, Q2Error
from q2.plugins.catalogue import one_line
from q2.quant.base import Quantizer
from q2.quant.dtypes import cast_to
from q2.quant.kernels.fused import Kind
from q2.quant.options import MAX_WIDTH

__all__ = ["check_quantizer"]

_PUBLIC = {name for name in (*vars(Quantizer), *Quantizer.__annotations__) if not name.startswith("_")}


@cache
def check_quantizer(kind: type[Quantizer], owner: str = "", name: str = "") -> None:
    """Raise `PluginError`, one line, for a class that is no quantizer or does not do what `Quantizer` asks of it.

    `owner` is the plugin that offers it as `name`. It is fitted to weights of shape (8, 6) and (8, 3, 2, 2) with
    ordinary, constant and zero channels, in all dtypes, at its least and its greatest width and at 16 and 32 bits a
    parameter; that takes milliseconds, and is done once a process. Right are: sizes (`overhead_bits` is what the
    parameters take), codes (uint8, within the width, and those of the quantized weight decode to it), values (finite,
    of the weight's shape; `restore` gives what `decode` makes of `encode`), and what `per_channel` names.

    >>> from q2.quant.quantizers.uniform import Uaq
    >>> check_quantizer(Uaq)
    >>> class Wide(Uaq):
    ...     def overhead_bits(self, shape, bits, prec=16):
    ...         return prec * shape[0]
    >>> check_quantizer(Wide, "wide.py")
    Traceback (most recent call last):
    q2.errors.PluginError: plugin 'wide.py', q2_quantizers: 'uaq' (Wide) stores 256 bits of parameters for a weight of \
shape (8, 6) at 1 bits, prec 16, and overhead_bits says 128
    """
    title = repr(name or getattr(kind, "name", "")) if isinstance(kind, type) else repr(name)
    head = f"{f'plugin {owner!r}, ' if owner else ''}q2_quantizers: {title} ({getattr(kind, '__name__', kind)})"
    try:
        _check_class(kind, name)
        quantizer = kind()
        for weight in _weights():
            for bits in sorted({quantizer.min_bits, quantizer.max_bits}):
                for prec in (16, 32):
                    place = f"for a weight of shape {tuple(weight.shape)} at {bits} bits, prec {prec}"
                    try:
                        _check_fit(quantizer, weight, bits, prec, place)
                    except Q2Error:
                        raise
                    except Exception as error:  # whatever a plugin may raise
                        raise PluginError(f"fails {place}, {weight.dtype}: {one_line(error)}") from error
    except Q2Error as error:
        raise PluginError(f"{head} {error}") from error
    except Exception as error:  # its constructor's
        raise PluginError(f"{head} cannot be made without arguments: {one_line(error)}") from error


def _check_class(kind: type[Quantizer], name: str) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Quantizer)):
        raise PluginError("is no subclass of q2.quant.Quantizer")
    for each in kind.__mro__[: kind.__mro__.index(Quantizer)]:
        for attribute in (*vars(each), *inspect.get_annotations(each)) if issubclass(each, Quantizer) else ():
            near = get_close_matches(attribute, _PUBLIC, n=1, cutoff=0.8)
            if near and attribute not in _PUBLIC and not attribute.startswith("_"):
                raise PluginError(
                    f"has the unknown attribute {attribute!r}; did you mean {near[0]!r}? (your own start with _)"
                )
    if inspect.isabstract(kind):
        raise PluginError(f"lacks the methods {', '.join(sorted(kind.__abstractmethods__))}")
    if not isinstance(getattr(kind, "name", None), str):
        raise PluginError("lacks the attribute name, the text before the width in an option")
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", kind.name, re.ASCII):
        raise PluginError(f"has the name {kind.name!r}, expected letters, digits, '_', '-' and '.'")
    if name and kind.name != name:
        raise PluginError(f"has the name {kind.name!r}, and is offered as {name!r}")
    low, high = kind.min_bits, kind.max_bits
    if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high <= MAX_WIDTH):
        raise PluginError(f"has min_bits {low!r} and max_bits {high!r}, expected whole numbers within 1 to {MAX_WIDTH}")
    if kind.code not in get_args(Kind):
        raise PluginError(f"has the code {kind.code!r}, expected one of {', '.join(map(repr, get_args(Kind)))}")
    channels = kind.per_channel
    if channels is not None and not (isinstance(channels, tuple) and all(isinstance(each, str) for each in channels)):
        raise PluginError(f"has per_channel {channels!r}, expected a tuple of names or None")


def _check_fit(quantizer: Quantizer, weight: Tensor, bits: int, prec: int, place: str) -> None:
    shape = weight.shape
    parameters = quantizer.parameters_each(weight.clone(), [bits], prec)[0]
    _check_parameters(parameters, quantizer.per_channel, len(weight), place)
    stored = sum(8 * tensor.nbytes for tensor in parameters.values())
    wanted = quantizer.overhead_bits(tuple(shape), bits, prec)
    if stored != wanted:
        raise PluginError(f"stores {stored} bits of parameters {place}, and overhead_bits says {wanted}")
    if any(8 * tensor.element_size() != prec for tensor in parameters.values()):
        found = ", ".join(f"{key} {tensor.dtype}" for key, tensor in parameters.items())
        raise PluginError(f"stores parameters of other widths than prec {place}: {found}")
    codes = quantizer.encode(weight.clone(), parameters, bits)
    if codes.dtype != torch.uint8 or codes.shape != shape:
        raise PluginError(f"encodes to {_form(codes)} {place}, expected {tuple(shape)} torch.uint8")
    if int(codes.max()) >= 2**bits:
        raise PluginError(f"encodes to the code {int(codes.max())} {place}, the greatest is {2**bits - 1}")
    decoded = quantizer.decode_at(codes, parameters, bits)
    if decoded.shape != shape or not decoded.is_floating_point():
        raise PluginError(f"decodes to {_form(decoded)} {place}, expected {tuple(shape)} of a float dtype")
    values = quantizer.restore(weight.clone(), parameters, bits)
    if values.shape != shape or values.dtype != weight.dtype:
        raise PluginError(f"restores to {_form(values)} {place}, expected {_form(weight)}")
    for what, made in (("decodes", decoded), ("restores", values)):
        if not torch.isfinite(made).all():
            raise PluginError(f"{what} to {int((~torch.isfinite(made)).sum())} values that are NaN or infinite {place}")
    if not torch.equal(values, cast_to(decoded, weight.dtype)):
        raise PluginError(f"restores to other values than decode makes of encode {place}")
    again = quantizer.decode_at(quantizer.encode(values.clone(), parameters, bits), parameters, bits)
    if not torch.equal(cast_to(again, weight.dtype), values):
        raise PluginError(f"gives the quantized weight codes that decode to something else {place}")
    if quantizer.per_channel is not None:
        rows = slice(2, 5)
        own = {key: held[rows] if key in quantizer.per_channel else held for key, held in parameters.items()}
        if not torch.equal(quantizer.decode_at(codes[rows], own, bits), decoded[rows]):
            raise PluginError(f"decodes a few channels to something else than all {place}; see per_channel")


def _check_parameters(parameters: Mapping[str, Tensor], channels: Iterable[str] | None, rows: int, place: str) -> None:
    if not isinstance(parameters, Mapping):
        raise PluginError(f"has parameters of type {type(parameters).__name__} {place}, expected a mapping")
    for key, tensor in parameters.items():
        if not isinstance(key, str) or not key.isidentifier() or key == "codes":
            raise PluginError(f"has a parameter called {key!r} {place}, expected a Python name other than 'codes'")
        if not isinstance(tensor, Tensor):
            raise PluginError(f"has the parameter {key!r} of type {type(tensor).__name__} {place}, expected a tensor")
    for key in channels or ():
        if key not in parameters or parameters[key].ndim == 0 or len(parameters[key]) != rows:
            raise PluginError(f"has per_channel {key!r} {place}, which is no parameter with a row for each channel")


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _weights() -> list[Tensor]:
    """Return small weights of every dtype: ordinary channels, a constant one and one of zeros."""
    values = torch.linspace(-3, 3, 96).sin() * torch.linspace(0.01, 2, 96)
    values = values.view(8, 12)[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    values[3], values[6] = 0.25, 0.0
    return [
        values[:, :6].contiguous(),
        values.view(8, 3, 2, 2).to(torch.float16),
        values[:, :6].to(torch.bfloat16),
    ]
