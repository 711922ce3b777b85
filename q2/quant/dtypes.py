"""The dtypes in which parameters are stored and values are held."""

import torch
from torch import Tensor

__all__ = ["cast_to", "compact", "parameter_dtype"]


def parameter_dtype(prec: int, largest: float) -> torch.dtype:
    """Return the dtype in which a parameter is stored at `prec` bits, when `largest` is the largest absolute value.

    At 16 bits float16, unless `largest` leaves its range (above 65504, or so small that bfloat16 resolves it better).

    >>> parameter_dtype(16, 0.5), parameter_dtype(16, 1e6)
    (torch.float16, torch.bfloat16)
    """
    if prec == 32:
        return torch.float32
    small = 0 < largest < torch.finfo(torch.float16).smallest_normal / 4
    return torch.bfloat16 if small or largest > torch.finfo(torch.float16).max else torch.float16


def compact(tensor: Tensor) -> Tensor:
    """Return float32 values that float16 holds exactly as float16, and any other tensor as it is.

    >>> compact(torch.tensor([0.5, 2.0])).dtype, compact(torch.tensor([0.1])).dtype
    (torch.float16, torch.float32)
    """
    if tensor.dtype != torch.float32 or tensor.is_meta:
        return tensor
    short = tensor.to(torch.float16)
    return short if torch.equal(short.float(), tensor) else tensor


def cast_to(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Cast, keeping the shape. Values beyond the range of a float `dtype` become its largest value, not infinity."""
    if values.dtype == dtype or not dtype.is_floating_point:
        return values.to(dtype)
    limit = torch.finfo(dtype).max
    return values.float().clamp(-limit, limit).to(dtype)
