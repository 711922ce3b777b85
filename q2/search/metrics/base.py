"""What a metric is: its direction, unit and cost, and whether it is an estimate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["METRICS", "Cost", "Metric"]

Cost = Literal["free", "forward", "images"]


@dataclass(frozen=True)
class Metric:
    """A number that a trial is measured by.

    `cost` is what it takes: ``free`` (the recipe and the bank), ``forward`` (a few passes of the denoiser) or
    ``images`` (whole samples). An `estimate` comes with an interval, since other noise would give another number.

    >>> METRICS["FID-GT-1k"].sign
    -1
    """

    name: str
    better: Literal["higher", "lower"]
    cost: Cost
    estimate: bool
    unit: str
    text: str

    @property
    def sign(self) -> int:
        """1 where higher is better, -1 where lower is."""
        return 1 if self.better == "higher" else -1


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("avg_bits", "lower", "free", False, "bits", "bits of a weight, overheads included"),
        Metric("quantized_size", "lower", "free", False, "bytes", "quantized weights and their overheads"),
        Metric("model_size", "lower", "free", False, "bytes", "the whole denoiser, as it is stored"),
        Metric("quantized_error", "lower", "free", False, "", "sum over layers and channels of the mean |x - x̂|^2.4"),
        Metric("bops", "lower", "free", False, "TBOPs", "bit operations of one pass"),
        Metric("latency", "lower", "forward", True, "seconds", "one pass of the denoiser"),
        Metric("SQNR", "higher", "forward", True, "dB", "latents against full precision's, same inputs"),
        Metric("PSNR", "higher", "images", True, "dB", "images against full precision's, same noise"),
        Metric("SSIM", "higher", "images", True, "", "structural similarity to full precision's images"),
        Metric("FID-GT-1k", "lower", "images", True, "", "Fréchet distance of Inception features to real images"),
        Metric("FID-FP-1k", "lower", "images", True, "", "Fréchet distance of Inception features to full precision"),
        Metric("KID", "lower", "images", True, "", "kernel distance of Inception features to real images"),
        Metric("CMMD", "lower", "images", True, "", "kernel distance of CLIP embeddings to real images"),
        Metric("CLIP-score", "higher", "images", True, "", "cosine of image and prompt embeddings, times 100"),
        Metric("judge-fid", "lower", "images", True, "", "Fréchet distance of the judge's features to real images"),
        Metric("judge-accuracy", "higher", "images", True, "share", "images that the judge recognises as their class"),
    )
}
