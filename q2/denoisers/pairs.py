"""What quantization did to each image or latent, against full precision's from the same noise: PSNR, SSIM, SQNR.

A sample that holds NaN or infinity, on either side, has NaN.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["LIMIT", "psnr", "sqnr", "sqnr_by_image", "ssim"]

Array = NDArray[np.float64]
Floats = NDArray[np.floating]
LIMIT = 100.0
_WINDOW = 7


def psnr(images: Floats, reference: Floats) -> Array:
    """Return the peak signal-to-noise ratio of each image, dB (N,), of images (N, C, H, W) in [0, 1]; at most 100.

    >>> psnr(np.zeros((1, 1, 2, 2)), np.full((1, 1, 2, 2), 0.1)).round(6)
    array([20.])
    """
    x, y = _checked(images, reference)
    return _decibel(np.ones(len(x)), ((x - y) ** 2).reshape(len(x), -1).mean(axis=1))


def sqnr(values: Floats, reference: Floats) -> Array:
    """Return the signal-to-quantization-noise ratio Σx²/Σ(x - x̂)² of each sample, dB (N,), of (N, ...); at most 100.

    >>> sqnr(np.array([[0.9, 1.8]]), np.array([[1.0, 2.0]])).round(6)
    array([20.])
    """
    x, y = (array.reshape(len(array), -1) for array in _checked(values, reference))
    return _decibel((y**2).sum(axis=1), ((x - y) ** 2).sum(axis=1))


def sqnr_by_image(values: Floats, reference: Floats, images: NDArray[np.integer[Any]]) -> Array:
    """Return the mean `sqnr` of the samples (N, ...) of each image, dB, by the images' numbers (N,), ascending.

    >>> sqnr_by_image(np.array([[0.9], [0.99], [0.9]]), np.ones((3, 1)), np.array([4, 4, 7])).round(6)
    array([30., 20.])
    """
    _, image = np.unique(images, return_inverse=True)
    return np.asarray(np.bincount(image, sqnr(values, reference)) / np.bincount(image))


def ssim(images: Floats, reference: Floats) -> Array:
    """Return the structural similarity of each image (N,), of images (N, C, H, W) in [0, 1], both sides 7 or more.

    Wang et al. 2004 with a uniform 7x7 window, sample covariance, K₁ = 0.01, K₂ = 0.03, and the mean over the windows
    that fit and over channels: scikit-image's default. Raises `ValueError` for smaller images.
    """
    x, y = _checked(images, reference)
    if x.ndim != 4 or min(x.shape[2:]) < _WINDOW:
        raise ValueError(f"expected images (N, C, H, W) of {_WINDOW} pixels or more a side, found the shape {x.shape}")
    mean_x, mean_y = _windows(x), _windows(y)
    sample = _WINDOW**2 / (_WINDOW**2 - 1)
    var_x = sample * (_windows(x * x) - mean_x**2)
    var_y = sample * (_windows(y * y) - mean_y**2)
    covariance = sample * (_windows(x * y) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return np.asarray((above / below).mean(axis=(1, 2, 3)))


def _windows(images: Array) -> Array:
    """Return the means over all windows that fit."""
    rows = sliding_window_view(images, _WINDOW, axis=2).mean(axis=-1)
    return np.asarray(sliding_window_view(rows, _WINDOW, axis=3).mean(axis=-1))


def _decibel(signal: Array, noise: Array) -> Array:
    """Return 10 log₁₀ of the ratio within ±100, the limit where there is no noise; NaN where one is not finite."""
    ratio = np.divide(signal, noise, out=np.full_like(signal, np.inf), where=noise > 0)
    found = np.minimum(10 * np.log10(np.maximum(ratio, 10 ** (-LIMIT / 10))), LIMIT)
    return np.where(np.isfinite(signal) & np.isfinite(noise), found, np.nan)


def _checked(values: Floats, reference: Floats) -> tuple[Array, Array]:
    if values.shape != reference.shape or not values.size:
        raise ValueError(f"expected two arrays of one shape, found {values.shape} and {reference.shape}")
    x, y = values.astype(np.float64), reference.astype(np.float64)
    good = (np.isfinite(x) & np.isfinite(y)).reshape(len(x), -1).all(axis=1)
    for side in (x, y):
        side[~good] = np.nan  # so that no infinity meets another
    return x, y
