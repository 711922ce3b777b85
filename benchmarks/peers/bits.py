"""How many bits a quantized weight takes, counted from the tensors that are kept to make it again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["FULL_BITS", "Kept", "Layer", "Setting", "average_bits", "bits_of", "score"]

FULL_BITS = 16  # what a weight counts that a method leaves as it is


def bits_of(tensor: Tensor) -> int:
    """Return what a tensor takes in memory, in bits.

    >>> import torch
    >>> bits_of(torch.zeros(3, dtype=torch.float16))
    48
    """
    return tensor.numel() * tensor.element_size() * 8


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight layer: its name, its class (``Linear``, ``Conv2d``) and its weight, float32."""

    name: str
    kind: str
    weight: Tensor


@dataclass(frozen=True, eq=False)
class Kept:
    """A quantized weight.

    `weight` has the values that it stands for, in the weight's shape, float32. `codes` and `others` (scales, zero
    points, codebooks, low-rank factors) are all the tensors from which it is made. `width` is that of a code, in bits.
    """

    weight: Tensor
    codes: Tensor
    others: Sequence[Tensor] = ()
    width: int = 0

    @property
    def bits(self) -> int:
        """The size of all tensors, as they are kept."""
        return bits_of(self.codes) + sum(map(bits_of, self.others))

    @property
    def packed(self) -> int:
        """The size if every code took `width` bits, which not all methods see to; `width` 0: as they are kept."""
        codes = self.weight.numel() * self.width if self.width else bits_of(self.codes)
        return codes + sum(map(bits_of, self.others))


@dataclass(frozen=True)
class Setting:
    """A method at a width: `quantize` gives what is kept of a layer; None where the method cannot do the layer.

    Settings of a method at a width differ in `detail` alone; the best of them is measured in full.
    """

    method: str
    bits: int
    detail: str
    quantize: Callable[[Layer], Kept | None]

    @property
    def name(self) -> str:
        """The method, the width and the detail."""
        return f"{self.method} {self.bits} {self.detail}".rstrip()


def average_bits(layers: Iterable[tuple[Layer, Kept | None]], *, packed: bool = False) -> float:
    """Return the bits a weight, over the weights of all layers; one that is not quantized counts `FULL_BITS` each."""
    bits, weights = 0, 0
    for layer, kept in layers:
        weights += layer.weight.numel()
        if kept is None:
            bits += FULL_BITS * layer.weight.numel()
        else:
            bits += kept.packed if packed else kept.bits
    return bits / weights


def score(sqnr: float, bits: float) -> float:
    """Return how good an SQNR in dB is for the bits it takes: a uniform quantizer gains 6.02 dB for each bit."""
    return sqnr - 6.02 * bits
