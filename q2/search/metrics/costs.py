"""Metrics that follow from a recipe and the bank: sizes, bit operations, the sum of the weights' errors."""

from q2.search.metrics.base import FreeMetric

__all__ = ["AvgBits", "BitOperations", "ModelSize", "OutputError", "QuantizedError", "QuantizedSize"]


class AvgBits(FreeMetric):
    """Bits of a weight, codebooks, scales and zero points included."""

    name = "avg_bits"
    better = "lower"
    unit = "bits"


class QuantizedSize(FreeMetric):
    """Bytes of the weight layers' weights, codebooks, scales and zero points included."""

    name = "quantized_size"
    better = "lower"
    unit = "bytes"


class ModelSize(FreeMetric):
    """Bytes of the whole denoiser: quantized weights, and everything else as it is."""

    name = "model_size"
    better = "lower"
    unit = "bytes"


class QuantizedError(FreeMetric):
    """Sum over layers and output channels of the mean |x - x̂|^2.4 of the weights (Qua²SeDiMo)."""

    name = "quantized_error"
    better = "lower"


class OutputError(FreeMetric):
    """Sum over layers of the squared error that an option leaves in the layer's outputs for one image's inputs.

    From rows of inputs, layer by layer, with all other layers exact: a calibrated bank has it, and a plain one gets it.
    """

    name = "output_error"
    better = "lower"


class BitOperations(FreeMetric):
    """Bit operations of one pass of the denoiser, as `passes.bops` counts them."""

    name = "bops"
    better = "lower"
    unit = "TBOPs"
