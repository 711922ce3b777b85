"""Metrics of images against full precision's from the same noise: what quantization changed, image by image."""

import numpy as np

from q2.denoisers import pairs
from q2.search.metrics.base import Array, Chunk, ImageMetric

__all__ = ["LatentSqnr", "Psnr", "Ssim"]


class LatentSqnr(ImageMetric):
    """Signal to quantization noise of the latents that the autoencoder decodes, against full precision's."""

    name = "latent-SQNR"
    better = "higher"
    unit = "dB"
    bounds = (-pairs.LIMIT, pairs.LIMIT)

    def rows(self, chunk: Chunk) -> Array:
        """Return the ratio of each image or video (N,), in dB."""
        return pairs.sqnr(np.asarray(chunk.made.latents), np.asarray(chunk.full.latents))


class Psnr(ImageMetric):
    """Peak signal to noise of the images against full precision's."""

    name = "PSNR"
    better = "higher"
    unit = "dB"
    bounds = (-pairs.LIMIT, pairs.LIMIT)

    def rows(self, chunk: Chunk) -> Array:
        """Return the ratio of each image, or the mean over the frames of each video (N,), in dB."""
        return _means(chunk, pairs.psnr(*_images(chunk)))


class Ssim(ImageMetric):
    """Structural similarity of the images to full precision's (Wang et al. 2004)."""

    name = "SSIM"
    better = "higher"
    bounds = (-1.0, 1.0)

    def rows(self, chunk: Chunk) -> Array:
        """Return the similarity of each image, or the mean over the frames of each video (N,)."""
        return _means(chunk, pairs.ssim(*_images(chunk)))


def _images(chunk: Chunk) -> tuple[Array, Array]:
    made, full = (np.asarray(samples.images.clamp(0, 1)) for samples in (chunk.made, chunk.full))
    return made, full


def _means(chunk: Chunk, values: Array) -> Array:
    return np.asarray(values.reshape(len(chunk.made.labels), -1).mean(axis=1))
