"""The compiled kernels do what plain torch does, which is what other devices run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from q2.quant import fit
from q2.quant.kernels.lookup import borders, gather, look_up
from q2.quant.kernels.scales import requantize
from q2.quant.quantizers.uniform import snap
from tests.quant.strategies import DTYPES, noise, relaxed, weights


@relaxed
@given(weights(columns=40), st.sampled_from(["kmeans-c", "kmeans-a"]), st.integers(1, 8))
def test_codebooks_are_looked_up_the_same(weight: Tensor, name: str, bits: int) -> None:
    fitted = fit(weight, f"{name}-{bits}")
    books = torch.atleast_2d(fitted.parameters["codebook"]).float()
    edges = torch.from_numpy(borders(books.numpy()))
    assert torch.equal(gather(weight, edges, books).to(weight.dtype), fitted.dequantize())
    numbers = torch.arange(2**bits)[None].float()
    assert torch.equal(gather(weight, edges, numbers), fitted.codes().float())


@relaxed
@given(weights(columns=40), st.integers(1, 8))
def test_levels_are_snapped_to_the_same(weight: Tensor, bits: int) -> None:
    fitted = fit(weight, f"uaq-{bits}", prec=32)
    scale, zero = (fitted.parameters[name].float() for name in ("scale", "zero"))
    top, nothing, ones = 2**bits - 1, torch.zeros_like(scale), torch.ones_like(scale)
    values = snap(weight, (scale, zero, nothing, scale), top)
    assert torch.equal(values.to(weight.dtype), fitted.dequantize())
    assert torch.equal(snap(weight, (scale, zero, zero, ones), top), fitted.codes().float())


@pytest.mark.parametrize("columns", [1, 15, 16, 17, 200])
def test_rows_of_any_length_are_written_whole_and_no_further(columns: int) -> None:
    rows = noise(3, columns).numpy()
    room = np.full((4, columns), 7.0, np.float32)
    look_up(rows, np.zeros((1, 1), np.float32), np.array([[-1.0, 1.0]], np.float32), room[:3])
    assert np.array_equal(room[:3], np.where(rows > 0, 1, -1))
    ones, zeros = np.ones(3, np.float32), np.zeros(3, np.float32)
    requantize(rows, ones, zeros - 100, 200, zeros - 100, ones, 1e9, room[:3])
    assert np.array_equal(room[:3], np.clip(np.rint(rows), 100, 300) - 100)
    assert (room[3] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("option", ["uaq-4", "kmeans-c-4", "kmeans-a-3"])
def test_a_transposed_weight_is_fitted_as_it_reads(option: str, dtype: torch.dtype) -> None:
    weight = noise(40, 30, dtype=dtype)
    seen, copied = fit(weight.T, option), fit(weight.T.contiguous(), option)
    assert torch.equal(seen.dequantize(), copied.dequantize())
    assert seen.errors == copied.errors
