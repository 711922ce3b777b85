"""K-means against brute force and scikit-learn."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from q2.quant import fit
from q2.quant.kernels import narrow
from tests.quant.strategies import DTYPES, noise, relaxed, weights


def brute_force(row: Tensor, clusters: int, dtype: torch.dtype) -> float:
    """The least squared error over all partitions of sorted values, each around a mean that `dtype` can hold."""
    values = row.double().sort().values
    best = float("inf")
    for cuts in itertools.combinations(range(1, len(values)), min(clusters, len(values)) - 1):
        parts = [values[a:b] for a, b in itertools.pairwise((0, *cuts, len(values)))]
        best = min(best, sum(float((part - part.mean().to(dtype).double()).square().sum()) for part in parts))
    return best


def squared_error(weight: Tensor, option: str, prec: int = 16) -> Tensor:
    values = fit(weight, option, prec=prec).dequantize()
    return (weight.double() - values.double()).square().sum(1)


@relaxed
@given(weights(columns=9), st.integers(1, 3))
def test_every_channel_reaches_the_optimum_of_all_stored_codebooks(weight: Tensor, bits: int) -> None:
    held = torch.float16 if weight.dtype == torch.float32 else weight.dtype
    for row, error in zip(weight, squared_error(weight, f"kmeans-c-{bits}"), strict=True):
        assert float(error) <= brute_force(row, 2**bits, held) * (1 + 1e-9) + 1e-12


@relaxed
@given(weights(columns=4), st.integers(1, 2))
def test_the_tensor_reaches_the_optimum_of_all_stored_codebooks(weight: Tensor, bits: int) -> None:
    weight = weight[:2]
    held = torch.float16 if weight.dtype == torch.float32 else weight.dtype
    total = float(squared_error(weight, f"kmeans-a-{bits}").sum())
    assert total <= brute_force(weight.flatten(), 2**bits, held) * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_error_is_above_that_of_scikit_learn(bits: int) -> None:
    weight = noise(3, 200, seed=bits)
    own = squared_error(weight, f"kmeans-c-{bits}", prec=32)
    for row, error in zip(weight.double().numpy(), own.tolist(), strict=True):
        inertia = KMeans(2**bits, n_init=2, random_state=0).fit(row[:, None]).inertia_
        assert error <= inertia * (1 + 1e-6)
    inertia = KMeans(2**bits, n_init=2, random_state=0).fit(weight.double().reshape(-1, 1).numpy()).inertia_
    assert float(squared_error(weight, f"kmeans-a-{bits}", prec=32).sum()) <= inertia * (1 + 1e-6)


@pytest.mark.parametrize("option", ["kmeans-c-3", "kmeans-c-4", "kmeans-a-4"])
def test_no_stored_codebook_of_scikit_learn_is_better(option: str) -> None:
    weight = noise(4, 200, dtype=torch.float16)
    rows = weight.double() if option.startswith("kmeans-c") else weight.double().reshape(1, -1)
    total = 0.0
    for row in rows:
        found = KMeans(2 ** int(option[-1]), n_init=2, random_state=0).fit(row[:, None].numpy())
        stored = torch.from_numpy(found.cluster_centers_).to(torch.float16).double().flatten()
        total += float((row[:, None] - stored).square().amin(1).sum())
    assert float(squared_error(weight, option).sum()) <= total * (1 + 1e-12)


@relaxed
@given(weights(columns=40), st.sampled_from(["kmeans-c", "kmeans-a"]), st.integers(1, 8), st.sampled_from([16, 32]))
def test_centroids_ascend_within_the_weight_and_codes_name_the_nearest(
    weight: Tensor, name: str, bits: int, prec: int
) -> None:
    fitted = fit(weight, f"{name}-{bits}", prec=prec)
    codebook = fitted.parameters["codebook"].double()
    assert codebook.shape == ((len(weight), 2**bits) if name == "kmeans-c" else (2**bits,))
    assert (codebook.diff(dim=-1) >= 0).all()
    for row, values, book in zip(weight, fitted.dequantize(), codebook.expand(len(weight), -1), strict=True):
        inside = row if name == "kmeans-c" else weight
        assert float(inside.min()) <= float(values.min())
        assert float(values.max()) <= float(inside.max())
        nearest = (row.double()[:, None] - book).abs().amin(1)
        assert torch.equal((row.double() - values.double()).abs(), nearest)


@relaxed
@given(weights(columns=40), st.sampled_from(["kmeans-c", "kmeans-a"]))
def test_the_squared_error_never_grows_with_the_width(weight: Tensor, name: str) -> None:
    errors = [fit(weight, f"{name}-{bits}").mse for bits in range(1, 9)]
    assert all(wide <= narrow * (1 + 1e-9) for narrow, wide in itertools.pairwise(errors))


@pytest.mark.parametrize("dtype", DTYPES)
def test_as_many_distinct_values_as_codes_are_exact(dtype: torch.dtype) -> None:
    levels = noise(8, seed=3).to(torch.bfloat16).to(dtype)
    weight = levels[torch.randint(8, (5, 70), generator=torch.Generator().manual_seed(1))]
    for name in ("kmeans-c", "kmeans-a"):
        fitted = fit(weight, f"{name}-3")
        assert torch.equal(fitted.dequantize(), weight)


@pytest.mark.parametrize("kind", ["normal", "heavy", "rounded"])
def test_millions_of_values_are_narrowed_down_to_the_same_optimum(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = noise(300, 400)
    if kind == "heavy":
        weight = weight / noise(300, 400, seed=1).abs().clamp_min(1e-3)
    prec = 16 if kind == "rounded" else 32
    narrowed = [fit(weight, f"kmeans-a-{bits}", prec=prec) for bits in (1, 3, 4, 6)]
    monkeypatch.setattr(narrow, "_MANY", 1 << 30)
    direct = [fit(weight, f"kmeans-a-{bits}", prec=prec) for bits in (1, 3, 4, 6)]
    for one, other in zip(narrowed, direct, strict=True):
        assert one.mse == pytest.approx(other.mse, rel=1e-12)
        assert torch.allclose(one.parameters["codebook"], other.parameters["codebook"], rtol=1e-6)


def test_half_precision_and_its_float32_copy_give_the_same_codebook() -> None:
    weight = noise(20, 333, dtype=torch.float16)
    weight[0, :2] = torch.tensor([0.0, -0.0])
    for option in ("kmeans-c-4", "kmeans-a-4", "kmeans-a-8"):
        half, single = fit(weight, option).parameters["codebook"], fit(weight.float(), option).parameters["codebook"]
        assert np.array_equal(half.numpy(), single.numpy())
