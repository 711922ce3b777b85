"""What a quantized layer holds, part by part: codes, parameters and values, whether it is simulated or packed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from q2.errors import Q2Error
from q2.quant.options import Option
from q2.quant.packed.layers import Packed, pack_layer
from q2.quant.packed.packing import CODES, unpack
from q2.quant.simulated import Quantized, Simulated

__all__ = ["PartContents", "read_parts"]


@dataclass(frozen=True, eq=False)
class PartContents:
    """One part of a quantized layer, on the layer's device.

    `values` (O, I, ...) is the quantized weight in the layer's dtype; `channels` the range of input channels, None for
    a whole layer. `codes` are uint8 of the same shape and `parameters` what decodes them (``scale`` and ``zero``, or
    ``codebook``, as stored); both are empty for the option ``none``.
    """

    option: Option
    channels: tuple[int, int] | None
    codes: Tensor
    parameters: Mapping[str, Tensor]
    values: Tensor


def read_parts(module: nn.Module) -> Iterator[PartContents]:
    """Yield the parts of a simulated or packed layer; nothing for a layer that is not quantized.

    Raises `Q2Error` for a layer whose quantization was only planned (meta device).

    >>> from q2.quant import fit, quantize_layer
    >>> layer = nn.Linear(16, 4)
    >>> simulated = quantize_layer(layer, fit(layer.weight, "uaq-3"))
    >>> for layer in (simulated, pack_layer(simulated)):
    ...     (part,) = read_parts(layer)
    ...     print(part.option, part.codes.shape, sorted(part.parameters), torch.equal(part.values, layer.weight))
    uaq-3 torch.Size([4, 16]) ['scale', 'zero'] True
    uaq-3 torch.Size([4, 16]) ['scale', 'zero'] True
    """
    if not isinstance(module, Quantized):
        return
    if isinstance(module, Simulated) and cast(Tensor, module.weight).is_meta:
        raise Q2Error("is only planned: there are no weights to read")
    layer = module if isinstance(module, Packed) else cast(Packed, pack_layer(module))
    dtype = cast(Tensor, layer.like).dtype
    for number, part in enumerate(layer.parts):
        shape, held = part.of_shape(layer.shape), layer.held(number)
        values = part.decode(shape, held, dtype)
        if part.option.is_none:
            yield PartContents(part.option, part.channels, values.new_empty(0, dtype=torch.uint8), {}, values)
            continue
        codes = unpack(held.pop(CODES), part.option.bits, values.numel()).reshape(shape)
        yield PartContents(part.option, part.channels, codes, held, values)
