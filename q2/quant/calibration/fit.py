"""Options fitted to a layer's output: codebooks or scales, and codes, for the inputs that the layer sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from q2.quant.base import Fitted, OutputErrors, Quantizer
from q2.quant.calibration.problem import Codes, Problem
from q2.quant.dtypes import cast_to
from q2.quant.kernels.errors import measure
from q2.quant.packed.packing import pack, unpack

__all__ = ["Refitted", "fit_outputs", "refit_outputs"]

_ROUNDS, _ENOUGH = 3, 5e-3


@torch.no_grad()
def fit_outputs(
    weight: Tensor, quantizer: Quantizer, widths: Sequence[int], problem: Problem, prec: int = 16
) -> list[Fitted]:
    """Fit `weight` (O, I, ...) at each of `widths` so that its outputs change least; `problem` is about this weight.

    A fit to the weight alone comes first, and what is worse than that, in a channel or where channels share parameters
    in all, is not kept: no output error is above that of the plain option. Weighted codebooks, error compensation,
    levels refitted to the codes and coordinate descent follow. Raises what `Quantizer.fit` raises. Sources: GPTQ
    (ICLR'23), SqueezeLLM (ICML'24), QuantEase (2023).
    """
    plain = quantizer.fit_each(weight, widths, prec)
    signal, found = problem.signal, []
    starts: Sequence[Mapping[str, Tensor] | None] = [None] * len(plain)
    if all(quantizer.levels(each.parameters, each.option.bits) is not None for each in plain):
        starts = quantizer.weighted_parameters(weight.detach(), problem.importance, widths, prec)
    for each, start in zip(plain, starts, strict=True):
        values = each.dequantize()
        before = problem.errors(values.flatten(1).float())
        best = _Fit(each.parameters, each.codes().flatten(1), before)
        if start is not None:
            new = _improved(problem, quantizer, each.option.bits, weight.dtype, start)
            best = _better(quantizer, best, new)
            values = cast_to(quantizer.decode(best.codes.reshape(weight.shape), best.parameters), weight.dtype)
        errors = OutputErrors(float(best.errors.sum()), float(before.sum()), signal)
        codes = pack(best.codes.flatten(), each.option.bits)
        found.append(
            Fitted(
                each.option,
                quantizer,
                best.parameters,
                weight.shape,
                weight.dtype,
                prec,
                measure(weight, values),
                packed_codes=codes,
                outputs=errors,
            )
        )
    return found


@dataclass(frozen=True, eq=False)
class Refitted(Fitted):
    """What a fit became for one recipe, and what it was before."""

    before: Fitted = field(repr=False, kw_only=True)


@torch.no_grad()
def refit_outputs(weight: Tensor, before: Fitted, values: Tensor, problem: Problem) -> tuple[Refitted, float, float]:
    """Fit a quantized weight (O, I, ...) again, to the target and the inputs of `problem`; `values` is what it is now.

    Where the fit that is there serves the problem better, in a channel or in all as in `fit_outputs`, it stays. Returns
    the fit with the output errors of what was there and of what is now.
    """
    bits, quantizer, dtype = before.option.bits, before.quantizer, weight.dtype
    target = cast_to(problem.weight.reshape(weight.shape), dtype)
    new = fit_outputs(target, quantizer, [bits], problem, before.prec)[0]
    assert new.packed_codes is not None
    codes = quantizer.encode(values, before.parameters, bits)
    if before.packed_codes is not None:
        codes = unpack(before.packed_codes, bits, weight.numel()).reshape(weight.shape)
    old = _Fit(before.parameters, codes.flatten(1), problem.errors(values.flatten(1).float()))
    fresh = problem.errors(new.restore(target).flatten(1).float())
    found = unpack(new.packed_codes, bits, weight.numel()).reshape(weight.shape).flatten(1)
    best = _better(quantizer, old, _Fit(new.parameters, found, fresh))
    values = cast_to(quantizer.decode(best.codes.reshape(weight.shape), best.parameters), dtype)
    refitted = Refitted(
        before.option,
        quantizer,
        best.parameters,
        weight.shape,
        dtype,
        before.prec,
        measure(weight, values),
        packed_codes=pack(best.codes.flatten(), bits),
        before=before,
    )
    return refitted, float(old.errors.sum()), float(best.errors.sum())


@dataclass(frozen=True, eq=False)
class _Fit:
    """Parameters and codes (O, n), with the output error of every channel (O,)."""

    parameters: Mapping[str, Tensor]
    codes: Tensor
    errors: Tensor


def _improved(
    problem: Problem,
    quantizer: Quantizer,
    bits: int,
    dtype: torch.dtype,
    parameters: Mapping[str, Tensor],
) -> _Fit:
    """Return the best of what the rounds from `parameters` give."""
    levels = _levels(quantizer, parameters, bits, dtype)
    codes: Codes = problem.compensated(levels)
    best, last = None, torch.inf
    for _ in range(_ROUNDS):
        parameters = quantizer.refit(problem.normal(codes, 2**bits), parameters, bits)
        levels = _levels(quantizer, parameters, bits, dtype)
        codes, errors = problem.descended(levels, codes)
        new = _Fit(parameters, problem.given(codes), errors)
        best = _better(quantizer, best, new) if best else new
        now = float(errors.sum())
        if now > last * (1 - _ENOUGH):
            break
        last = now
    assert best is not None
    return best


def _levels(quantizer: Quantizer, parameters: Mapping[str, Tensor], bits: int, dtype: torch.dtype) -> Tensor:
    levels = quantizer.levels(parameters, bits)
    assert levels is not None
    return cast_to(levels, dtype).float().contiguous()


def _better(quantizer: Quantizer, one: _Fit, other: _Fit) -> _Fit:
    """Return the better of two: of every channel, where no parameter is shared among them."""
    if set(one.parameters) != set(quantizer.per_channel or ()):
        return min(one, other, key=lambda fit: float(fit.errors.sum()))
    won = other.errors < one.errors

    def chosen(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(won.view(-1, *(1,) * (old.ndim - 1)), new, old)

    parameters = {name: chosen(old, other.parameters[name]) for name, old in one.parameters.items()}
    return _Fit(parameters, chosen(one.codes, other.codes), chosen(one.errors, other.errors))
