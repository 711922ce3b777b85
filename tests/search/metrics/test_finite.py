"""NaN and infinity never become a finite number: not in any metric's arithmetic, not in images, latents and rows."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import q2
from q2.denoisers import Samples
from q2.denoisers.pairs import psnr, sqnr, ssim
from q2.search.metrics.base import Chunk
from q2.search.metrics.finite import NotFiniteError, check_finite
from q2.search.metrics.frechet import frechet_estimate, moments
from q2.search.metrics.intervals import Estimate, accuracy, mean_estimate
from q2.search.metrics.judged import JudgeAccuracy
from q2.search.metrics.kernel import cmmd_estimate, kid_estimate
from q2.search.metrics.pareto import pareto_front
from q2.search.metrics.rank import spearman, spearman_estimate
from q2.search.predictor.losses import ndcg, srcc
from q2.settings import EvaluationSettings

Array = NDArray[np.float64]
BAD = st.sampled_from([np.nan, np.inf, -np.inf])
ROWS = np.random.default_rng(0).random((5, 3))
IMAGES = np.random.default_rng(0).random((3, 1, 8, 8))
LABELS = np.arange(5.0)


def moved(rows: Array) -> Array:
    return np.asarray(rows[::-1] * 0.9)


WHOLE: dict[str, Callable[[Array], float | Estimate]] = {
    "frechet": lambda x: frechet_estimate(x, *moments(ROWS)),
    "frechet, reference": lambda x: frechet_estimate(ROWS, *moments(x)),
    "kid": lambda x: kid_estimate(x, moved(ROWS)),
    "kid, reference": lambda x: kid_estimate(moved(ROWS), x),
    "cmmd": lambda x: cmmd_estimate(x, moved(ROWS)),
    "cmmd, reference": lambda x: cmmd_estimate(moved(ROWS), x),
    "mean": lambda x: mean_estimate(x[:, 0]),
    "accuracy": lambda x: accuracy(x[:, 0], LABELS),
    "spearman": lambda x: spearman(x[:, 0], LABELS),
    "spearman's interval": lambda x: spearman_estimate(LABELS, x[:, 0]),
    "srcc": lambda x: srcc(LABELS, x[:, 0]),
    "srcc, truth": lambda x: srcc(x[:, 0], LABELS),
    "ndcg": lambda x: ndcg(LABELS, x[:, 0]),
    "ndcg, grades": lambda x: ndcg(x[:, 0], LABELS),
}
EACH = {"psnr": psnr, "sqnr": sqnr, "ssim": ssim}


@pytest.mark.parametrize("name", WHOLE)
@given(bad=BAD, row=st.integers(0, 4))
def test_a_number_of_all_rows_is_refused_or_not_finite(name: str, bad: float, row: int) -> None:
    rows = ROWS.copy()
    rows[row, 0] = bad
    with np.errstate(all="ignore"):
        try:
            found = WHOLE[name](rows)
        except ValueError:  # LinAlgError is one
            return
    assert not np.isfinite(found.value if isinstance(found, Estimate) else found)


@pytest.mark.parametrize("name", EACH)
@given(bad=BAD, also=st.sampled_from([None, np.nan, np.inf, -np.inf]), image=st.integers(0, 2), at=st.integers(0, 63))
def test_a_number_of_an_image_is_nan_for_that_image_alone(
    name: str, bad: float, also: float | None, image: int, at: int
) -> None:
    made, full = IMAGES.copy(), IMAGES[::-1].copy()
    expected = EACH[name](made, full)
    sides = [made, full] if also is None else [made]
    for side in sides:
        side.reshape(3, -1)[image, at] = bad
    if also is not None:
        full.reshape(3, -1)[image, at] = also
    for found in (EACH[name](made, full), EACH[name](full, made)):
        assert np.isnan(found[image])
    np.testing.assert_array_equal(np.delete(EACH[name](made, full), image), np.delete(expected, image))


def test_a_point_that_is_nan_is_on_no_front() -> None:
    assert pareto_front([[1.0, 2.0], [np.nan, 0.0], [0.0, np.nan], [2.0, 1.0]]).tolist() == [True, False, False, True]


def test_a_class_read_from_nan_is_not_counted() -> None:
    metric = JudgeAccuracy(q2.denoiser("digits-dit"), EvaluationSettings())
    images = torch.zeros(3, 1, 32, 32)
    images[1] = 1e38
    samples = Samples(images, torch.zeros(3, dtype=torch.long))
    assert np.isnan(metric.rows(Chunk(samples, samples))).tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_images_and_latents_that_are_not_finite_are_counted_and_named(bad: float) -> None:
    good = Samples(torch.rand(8, 1, 4, 4), torch.zeros(8), torch.rand(8, 2, 2, 2))
    for part, word in (("images", "pixels"), ("latents", "latents")):
        broken = {"images": good.images.clone(), "latents": good.latents.clone()}
        broken[part][[5, 6, 7], 0, 1, 1] = bad
        made = Samples(broken["images"], good.labels, broken["latents"])
        for pair in ((made, good), (good, made)):
            with pytest.raises(NotFiniteError, match=rf"^{word} of 3 of 8 images are not finite \(first: image 5\)$"):
                Chunk(*pair)


def test_what_has_no_values_has_none_that_are_not_finite() -> None:
    check_finite(torch.empty(0), "latents", "image")
    check_finite(np.ones((2, 3), bool), "rows", "image")
