"""Where a transformer block lets a scale of channels be moved from one layer into the one before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

__all__ = ["Site", "find_sites", "multiply_columns"]


@dataclass(frozen=True)
class Site:
    """Linears that read the same value, and how the layer before them comes to give it divided by a scale (I,)."""

    readers: tuple[str, ...]
    before: str
    divide: Callable[[Tensor], None]


def find_sites(model: nn.Module) -> Iterator[Site]:
    """Yield the sites of diffusers' transformer blocks: after norms with weights, after AdaLN-Zero, and after v."""
    for path, block in model.named_modules():
        prefix = f"{path}." if path else ""
        attention = "attn1" if hasattr(block, "attn1") else "attn"
        linears = {name: each for name, each in block.named_modules() if isinstance(each, nn.Linear)}
        qkv = tuple(f"{attention}.{name}" for name in ("to_q", "to_k", "to_v"))
        found: list[tuple[str, tuple[str, ...], nn.Module | None, int]] = []
        norm = getattr(block, "norm1", None)
        ada = linears.get("norm1.linear")
        if ada is not None and ada.bias is not None and ada.out_features == 6 * ada.in_features:
            found = [("norm1.linear", qkv, ada, 0), ("norm1.linear", ("ff.net.0.proj",), ada, 3)]
        elif isinstance(norm, nn.LayerNorm):
            found = [("norm1", qkv, norm, 0), ("norm3", ("ff.net.0.proj",), getattr(block, "norm3", None), 0)]
        for before, readers, module, chunk in found:
            if all(reader in linears for reader in readers):
                names = tuple(prefix + reader for reader in readers)
                if isinstance(module, nn.Linear):
                    yield Site(names, prefix + before, partial(_divide_modulation, module, chunk))
                elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
                    yield Site(names, prefix + before, partial(_divide_rows, module))
        value, out = linears.get("to_v"), linears.get("to_out.0")
        if value is not None and out is not None and getattr(block, "add_v_proj", None) is None:
            yield Site((f"{prefix}to_out.0",), f"{prefix}to_v", partial(_divide_rows, value))


def _divide_rows(module: nn.Linear | nn.LayerNorm, scale: Tensor) -> None:
    """Divide the outputs of a Linear, or of a norm with weights."""
    weight = module.weight.double()
    _set(module, "weight", weight / scale.view(-1, *(1,) * (weight.ndim - 1)))
    if module.bias is not None:
        _set(module, "bias", module.bias.double() / scale)


def _divide_modulation(module: nn.Linear, chunk: int, scale: Tensor) -> None:
    """Divide x · (1 + a) + b, where b and a are chunks number `chunk` and the next of what a Linear puts out."""
    size = len(scale)
    weight, bias = module.weight.double().clone(), module.bias.double().clone()
    for number, one in ((chunk, 0.0), (chunk + 1, 1.0)):
        rows = slice(number * size, (number + 1) * size)
        weight[rows] /= scale[:, None]
        bias[rows] = (bias[rows] + one) / scale - one
    _set(module, "weight", weight)
    _set(module, "bias", bias)


def _set(module: nn.Module, name: str, values: Tensor) -> None:
    """Give a module a new parameter; the old tensor stays what it was."""
    old = module.get_parameter(name)
    setattr(module, name, nn.Parameter(values.to(old.dtype), requires_grad=old.requires_grad))


def multiply_columns(module: nn.Module, scale: Tensor) -> None:
    """Multiply what a Linear does with each input channel by `scale` (I,)."""
    with torch.no_grad():
        _set(module, "weight", module.get_parameter("weight").double() * scale)
