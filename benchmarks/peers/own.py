"""q2's own options: plain ones, fitted to the weight, and those of a bank."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from q2.quant import Option, builtin_quantizer, fit
from q2.quant.bank import Bank
from q2.quant.base import Fitted
from q2.quant.packed.packing import pack, packed_bytes

from .bits import Kept, Layer, Setting

QUANTIZERS = ("uaq", "kmeans-a", "kmeans-c")
WIDTHS = (2, 3, 4, 5, 6)


def settings() -> Iterator[Setting]:
    for bits in WIDTHS:
        for name in QUANTIZERS:
            yield Setting(f"q2 {name}", bits, "", partial(_quantize, f"{name}-{bits}"))


def _quantize(option: str, layer: Layer) -> Kept:
    fitted = fit(layer.weight, option)
    codes = pack(fitted.codes(), fitted.option.bits)
    return Kept(fitted.dequantize().float(), codes, _stored(fitted), fitted.option.bits)


def bank_settings(folder: Path, denoiser: str) -> tuple[str, list[Setting]]:
    """Return which bank it is, and its options. Raises `BankError`; `ValueError` for another denoiser's."""
    bank = Bank.open(folder, builtin_quantizer)
    if bank.plan.denoiser != denoiser:
        raise ValueError(f"{folder}: a bank of {bank.plan.denoiser}, not of {denoiser}")
    options = [Option.parse(text) for text in bank.plan.options]
    return f"bank {bank.plan.fingerprint}", [
        Setting(f"q2 calibrated {option.quantizer}", option.bits, "", partial(_restore, bank, option))
        for option in options
    ]


def _restore(bank: Bank, option: Option, layer: Layer) -> Kept | None:
    """Put a layer's choices together: a layer that is split along its inputs has several."""
    if layer.name not in bank.plan.layers:
        return None
    made, codes, others = layer.weight.clone(), [], list[Tensor]()
    for choice, channels in bank.plan.layers[layer.name].choices.items():
        fitted = bank.fitted(choice, option)
        assert fitted is not None, f"{bank.folder}: {choice} has no {option}"
        part = made if channels is None else made[:, slice(*channels)]
        part.copy_(fitted.restore(part.contiguous()))
        held = fitted.packed_codes
        codes.append(torch.empty(packed_bytes(part.numel(), option.bits), dtype=torch.uint8) if held is None else held)
        others.extend(_stored(fitted))
    return Kept(made, torch.cat(codes), others, option.bits)


def _stored(fitted: Fitted) -> tuple[Tensor, ...]:
    parameters = tuple(fitted.parameters.values())
    bits = sum(8 * tensor.numel() * tensor.element_size() for tensor in parameters)
    assert bits == fitted.prec * sum(tensor.numel() for tensor in parameters), f"{fitted.option}: another precision"
    return parameters
