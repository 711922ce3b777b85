"""What kernels decode is what the plain path does, bit by bit; Triton's interpreter runs them where there is no GPU."""

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from q2.quant import fit, quantize_layer
from q2.quant.kernels import fused
from q2.quant.kernels.fused import Tile
from q2.quant.packed.layers import Packed, pack_layer

OPTIONS = [f"{name}-{bits}" for name in ("uaq", "kmeans-c", "kmeans-a") for bits in (1, 3, 4, 7, 8)]
DTYPES = (torch.float16, torch.float32, torch.bfloat16)
INTERPRETED = DTYPES[:2]  # the interpreter cuts bfloat16 off, a GPU rounds it
SHAPES = ((5, 7), (3, 11, 3, 3), (4, 24))
PRODUCTS = ("uaq-2", "uaq-3", "uaq-4", "uaq-8", "kmeans-c-1", "kmeans-c-3", "kmeans-c-4", "kmeans-a-2", "kmeans-a-3")
BOUNDS = {torch.float16: 1e-3, torch.float32: 1e-6, torch.bfloat16: 8e-3}
"""Largest relative errors of a product: the rounding of its result."""
Size = tuple[int, int, tuple[int, ...]]
"""Output and input channels, and the shape of the rows."""


def check(device: str, dtypes: tuple[torch.dtype, ...] = DTYPES) -> int:
    """Compare both paths for every option, dtype and odd shape on a device; return how many were equal."""
    equal = 0
    for dtype in dtypes:
        for shape in SHAPES:
            torch.manual_seed(len(shape))
            layer: torch.nn.Module
            if len(shape) == 2:
                layer = torch.nn.Linear(shape[1], shape[0]).to(dtype)
            else:
                layer = torch.nn.Conv2d(shape[1], shape[0], 3).to(dtype)
            for option in OPTIONS:
                weight = layer.weight
                assert isinstance(weight, torch.Tensor)
                packed = pack_layer(quantize_layer(layer, fit(weight.detach(), option)))
                assert isinstance(packed, Packed)
                expected = packed.weight
                part, held = packed.parts[0], {key: tensor.to(device) for key, tensor in packed.held(0).items()}
                out = torch.empty(shape, dtype=dtype, device=device)
                codes = held.pop("codes")
                fused.decode(part.quantizer.code, codes, held, part.option.bits, out)
                torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=0)
                equal += 1
    return equal


def multiply(device: str, dtypes: Sequence[torch.dtype], sizes: Sequence[Size], options: Sequence[str]) -> int:
    """Compare products with those of float64, for every option, tile, dtype and size; return how many were right."""
    right = 0
    for (channels, width, rows), option, dtype in itertools.product(sizes, options, dtypes):
        torch.manual_seed(width)
        layer = torch.nn.Linear(width, channels).to(dtype)
        packed = pack_layer(quantize_layer(layer, fit(layer.weight.detach(), option)))
        assert isinstance(packed, Packed)
        part, held = packed.parts[0], {key: tensor.to(device) for key, tensor in packed.held(0).items()}
        weight, bias = packed.weight.double(), layer.bias.detach().to(device)
        x, given = torch.randn(*rows, width).to(dtype), bias if right % 4 < 2 else None
        exact = torch.nn.functional.linear(x.double(), weight, None if given is None else given.cpu().double())
        for tile in (Tile(1, 4, 32), Tile(16, 16, 32)):
            details: Any = {"bits": part.option.bits, "bias": given, "channels": channels, "tile": tile}
            found = fused.linear(part.quantizer.code, x.to(device), held["codes"], held, **details)
            error = (found.cpu().double() - exact).norm() / exact.norm()
            assert found.shape == exact.shape
            assert error < BOUNDS[dtype], (option, dtype, tile, float(error))
            right += 1
    return right


def test_interpreted_kernels_give_the_very_values_and_the_right_products() -> None:
    """Products in float16 and float32: to the interpreter's product bfloat16 is a whole number."""
    call = "print(check('cpu', INTERPRETED), multiply('cpu', INTERPRETED, [(5, 40, (2,))], PRODUCTS))"
    code = f"from tests.quant.kernels.test_fused import *; {call}"
    root = Path(__file__).parents[3]
    env = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    run = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env, cwd=root)
    found = f"{len(OPTIONS) * len(INTERPRETED) * len(SHAPES)} {len(PRODUCTS) * len(INTERPRETED) * 2}"
    assert (run.stderr, run.stdout.strip()) == ("", found)


@pytest.mark.gpu
def test_a_gpu_gives_the_very_values() -> None:
    assert check("cuda") == len(OPTIONS) * len(DTYPES) * len(SHAPES)


@pytest.mark.gpu
def test_products_on_a_gpu_are_right() -> None:
    sizes: list[Size] = [(300, 1152, (3, 7)), (129, 640, (2, 77))]
    assert multiply("cuda", DTYPES[:1], sizes, PRODUCTS) == len(sizes) * len(PRODUCTS) * 2
    assert multiply("cuda", DTYPES[1:], sizes, PRODUCTS[2::2]) == 2 * len(sizes) * len(PRODUCTS[2::2]) * 2
