"""Image and latent metrics equal scikit-image's and their definitions, image by image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from q2.denoisers.pairs import LIMIT, psnr, sqnr, ssim


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.mark.parametrize("shape", [(4, 1, 16, 16), (3, 3, 7, 20), (2, 3, 32, 9)])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.5])
def test_psnr_and_ssim_equal_those_of_scikit_image(shape: tuple[int, ...], noise: float) -> None:
    reference = images(*shape)
    found = np.clip(reference + noise * (images(*shape, seed=1) - 0.5), 0, 1)
    for index, (x, y) in enumerate(zip(found, reference, strict=True)):
        expected = structural_similarity(x, y, data_range=1.0, channel_axis=0)
        assert ssim(found, reference)[index] == pytest.approx(expected, abs=1e-12)
        if noise:
            expected = peak_signal_noise_ratio(y, x, data_range=1.0)
            assert psnr(found, reference)[index] == pytest.approx(expected, rel=1e-12)


def test_equal_images_have_the_limit_not_infinity() -> None:
    x = images(2, 1, 8, 8)
    assert psnr(x, x).tolist() == sqnr(x, x).tolist() == [LIMIT, LIMIT]
    assert sqnr(np.zeros((2, 3)), np.zeros((2, 3))).tolist() == [LIMIT, LIMIT]
    assert sqnr(np.ones((1, 3)), np.zeros((1, 3))).tolist() == [-LIMIT]
    np.testing.assert_allclose(ssim(x, x), 1)


def test_sqnr_is_decibels_of_signal_over_error() -> None:
    reference, noise = images(5, 3, 4), images(5, 3, 4, seed=1)
    found = sqnr((reference + noise).astype(np.float32), reference.astype(np.float32))
    expected = 10 * np.log10((reference**2).sum((1, 2)) / (noise**2).sum((1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"two arrays of one shape, found \(1, 2\) and \(2, 2\)"):
        sqnr(np.zeros((1, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"7 pixels or more a side, found the shape \(1, 1, 6, 9\)"):
        ssim(np.zeros((1, 1, 6, 9)), np.zeros((1, 1, 6, 9)))
