"""The exporter ``gguf``: one file with the denoiser in GGUF's block types, for tools of the ggml family."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from q2.denoisers import Denoiser
from q2.errors import Q2Error, why
from q2.exporters.base import Exported, Exporter
from q2.files import replacing
from q2.passes.base import TextTable
from q2.progress import Progress, silent
from q2.quant import read_parts
from q2.quant.simulated import Quantized

__all__ = ["Gguf"]

_BLOCK, _FULL = 32, 16
_TYPES = {4: ("Q4_0", "Q4_1"), 5: ("Q5_0", "Q5_1"), 8: ("Q8_0",)}
_MISSING = "the gguf package is not installed; pip install gguf"
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Layer:
    """A quantized layer as exported: its block type, bits per weight, and the energy and error of its weights."""

    type: str
    block: str
    weights: int
    bytes: int
    energy: float
    error: float


class Gguf(Exporter):
    """A GGUF file: a quantized layer gets the block type nearest to its width, of two the one that loses less.

    Those are Q4_0 or Q4_1 for up to 4 bits, Q5_0 or Q5_1 for 5, Q8_0 for more; a layer whose rows do not divide into
    blocks of 32 (convolutions, mostly) is float16, as are layers that are not quantized; vectors are float32. Tensors
    have diffusers' names. Blocks have scales of their own, hence other values than q2's: the loss is reported.
    """

    name: ClassVar[str] = "gguf"

    def check(self, out: Path) -> None:
        """Raise `Q2Error` for a name that does not end in .gguf, and without the gguf package."""
        if find_spec("gguf") is None:
            raise Q2Error(_MISSING)
        if out.suffix != ".gguf":
            raise Q2Error(f"{out}: expected a name that ends in .gguf")

    def export(self, denoiser: Denoiser, out: Path, progress: Progress = silent) -> Exported:
        """Write the file. Raises `Q2Error`, as `check` does."""
        self.check(out)
        import gguf

        model, layers = denoiser.model, []
        tensors = list(_tensors(model))
        try:
            with replacing(out) as beside:
                writer: Any = gguf.GGUFWriter(beside, _architecture(model))
                writer.add_name(denoiser.label)
                writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
                for name, owner in progress(tensors, "gguf", len(tensors)):
                    values, bits = _values(model, name) if owner is None else _contents(owner)
                    kind, data = _encoded(values, bits)
                    writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
                    if owner is not None:
                        layers.append(_lost(owner, kind, data, values))
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_tensors_to_file()
                writer.close()
        except OSError as error:
            raise Q2Error(f"{out}: cannot be written: {why(error)}") from error
        return Exported(f"{out}: {out.stat().st_size / 1e6:.2f} MB", (_table(layers),))


def _tensors(model: nn.Module) -> Iterator[tuple[str, nn.Module | None]]:
    """Yield the names of a state dict with dequantized weights, and the quantized layer whose weight it is."""
    quantized = {f"{name}.weight": m for name, m in model.named_modules() if isinstance(m, Quantized)}
    owners = {key.removesuffix(".weight"): key for key in quantized}
    yield from quantized.items()
    for name in model.state_dict():
        owner, _, own = name.rpartition(".")
        if owner not in owners or own == "bias":
            yield name, None


def _values(model: nn.Module, name: str) -> tuple[Floats, int]:
    """Return a tensor that is not quantized, and 16 bits."""
    owner, _, own = name.rpartition(".")
    return _floats(cast(Tensor, getattr(model.get_submodule(owner), own)).detach()), _FULL


def _contents(owner: nn.Module) -> tuple[Floats, int]:
    """Return a quantized layer's weight, and the bits of its widest part."""
    parts = list(read_parts(owner))
    return _floats(torch.cat([part.values for part in parts], 1)), max(part.option.bits or _FULL for part in parts)


def _floats(tensor: Tensor) -> Floats:
    return cast(Floats, tensor.to("cpu", torch.float32).contiguous().numpy())


def _encoded(values: Floats, bits: int) -> tuple[str, npt.NDArray[Any]]:
    """Return the block type of a tensor of so many bits a value, and its data."""
    from gguf import GGMLQuantizationType, quants

    if values.ndim < 2:
        return "F32", values
    if bits > 8 or values.shape[-1] % _BLOCK:
        limit = np.finfo(np.float16).max
        return "F16", values.clip(-limit, limit).astype(np.float16)
    names = next(names for width, names in _TYPES.items() if bits <= width)
    tried = {name: quants.quantize(values, GGMLQuantizationType[name]) for name in names}
    errors = {name: _error(name, data, values) for name, data in tried.items()}
    best = min(tried, key=lambda name: errors[name])
    return best, tried[best]


def _error(kind: str, data: npt.NDArray[Any], values: Floats) -> float:
    from gguf import GGMLQuantizationType, quants

    decoded = quants.dequantize(data, GGMLQuantizationType[kind]).reshape(values.shape)
    return float(np.square(decoded - values, dtype=np.float64).sum())


def _lost(owner: nn.Module, kind: str, data: npt.NDArray[Any], values: Floats) -> _Layer:
    assert isinstance(owner, Quantized)
    energy = float(np.square(values, dtype=np.float64).sum())
    return _Layer(owner.exact_class.__name__, kind, values.size, data.nbytes, energy, _error(kind, data, values))


def _table(layers: list[_Layer]) -> TextTable:
    groups: dict[tuple[str, str], list[_Layer]] = {}
    for layer in layers:
        groups.setdefault((layer.type, layer.block), []).append(layer)
    rows = []
    for (kind, block), group in sorted(groups.items()):
        weights, error = sum(each.weights for each in group), sum(each.error for each in group)
        ratio = 10 * math.log10(sum(each.energy for each in group) / error) if error else math.inf
        rows.append((kind, block, len(group), weights / 1e6, 8 * sum(each.bytes for each in group) / weights, ratio))
    heads = ("type", "block", "layers", "M weights", "bits/weight", "SQNR dB to q2's values")
    return TextTable(heads, tuple(rows))


def _architecture(model: Any) -> str:
    """Return ``sdxl`` or ``sd1`` for the U-Nets that tools know by these names, else the class's name."""
    name = type(model).__name__
    if name != "UNet2DConditionModel":
        return name.lower()
    return "sdxl" if model.config.addition_embed_type == "text_time" else "sd1"
