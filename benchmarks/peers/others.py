"""HQQ, optimum-quanto and torchao: integers in groups, with a scale and a zero point."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .bits import Kept, Layer, Setting

GROUPS = (16, 32, 64, 128)


def hqq_settings() -> Iterator[Setting]:
    for bits in (2, 3, 4, 5, 8):
        for group in GROUPS:
            for axis in (0, 1):
                yield Setting("HQQ", bits, f"groups of {group}, axis {axis}", partial(_hqq, bits, group, axis))


def _hqq(bits: int, group: int, axis: int, layer: Layer) -> Kept | None:
    """Quantize rows of (output channels, the rest); HQQ itself has a layer for Linear alone."""
    from hqq.core.quantize import Quantizer

    flat = layer.weight.flatten(1)
    rows = flat.numel() // group if axis == 1 else group
    if flat.numel() % group or rows % (8 // bits):
        return None
    options = {"nbits": bits, "group_size": group, "axis": axis, "round_zero": bits == 4}
    codes, meta = Quantizer.quantize(flat, **options, compute_dtype=torch.float16, device="cpu")
    scale, zero = meta["scale"].half(), meta["zero"].half()
    wide = {**meta, "scale": scale.float(), "zero": zero.float(), "compute_dtype": torch.float32}
    made = Quantizer.dequantize(codes, wide)
    return Kept(made.reshape(layer.weight.shape).clone(), codes, (scale, zero), bits)


def quanto_settings() -> Iterator[Setting]:
    for bits in (2, 4):
        for group in (32, 64, 128):
            for optimizer in ("MaxOptimizer", "HqqOptimizer"):
                detail = f"groups of {group}, {optimizer}"
                yield Setting("quanto", bits, detail, partial(_quanto, bits, group, optimizer))
    yield Setting("quanto", 8, "rows, AbsmaxOptimizer", partial(_quanto, 8, 0, "AbsmaxOptimizer"))


def _quanto(bits: int, group: int, optimizer: str, layer: Layer) -> Kept:
    """Quantize as a quanto module does, in float16; a row that groups do not divide is one group."""
    from optimum import quanto

    qtype, half = getattr(quanto, f"qint{bits}"), layer.weight.half()
    row = half.shape[1:].numel()
    size = group if group and row > group and row % group == 0 else None
    chosen = getattr(quanto, optimizer)()
    if bits == 8:
        scale, shift, size = chosen(half, qtype=qtype, axis=0), None, None
    else:
        scale, shift = chosen(half, qtype=qtype, axis=0, group_size=size)
    made = quanto.quantize_weight(half, qtype, 0, scale, shift, group_size=size)
    held: dict[str, Tensor] = {}
    made.save_to_state_dict(held, "", False)
    codes = [tensor for tensor in held.values() if not tensor.is_floating_point()]
    assert len(codes) == 1, f"codes in {list(held)}"
    others = tuple(tensor for tensor in held.values() if tensor.is_floating_point())
    return Kept(made.dequantize().float(), codes[0], others, bits)


def torchao_settings() -> Iterator[Setting]:
    for bits in (2, 3, 4, 5, 8):
        for group in (32, 128):
            for mapping in ("symmetric", "asymmetric", "HQQ scales"):
                detail = f"IntxWeightOnly, groups of {group}, {mapping}"
                yield Setting("torchao", bits, detail, partial(_torchao, bits, group, mapping))
    yield Setting("torchao int8", 8, "Int8WeightOnly, rows, Linear alone", _torchao_int8)


def _torchao(bits: int, group: int, mapping: str, layer: Layer) -> Kept:
    """Quantize by groups of input channels; a layer whose inputs they do not divide has one group a row."""
    from torchao import quantization as ao
    from torchao.quantization.granularity import PerAxis, PerGroup
    from torchao.quantization.quant_primitives import MappingType
    from torchao.quantization.quantize_.workflows import IntxChooseQParamsAlgorithm

    weight = layer.weight
    grouped = PerGroup(group) if weight.shape[1] % group == 0 else PerAxis(0)
    hqq = mapping == "HQQ scales" and weight.ndim == 2
    config = ao.IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{bits}"),
        granularity=grouped,
        mapping_type=MappingType.ASYMMETRIC if mapping == "asymmetric" else MappingType.SYMMETRIC,
        scale_dtype=torch.float16,
        intx_choose_qparams_algorithm=getattr(IntxChooseQParamsAlgorithm, "HQQ_SCALE_ONLY" if hqq else "AFFINE"),
    )
    made = _by_torchao(weight, config)
    return Kept(made.dequantize().float(), made.qdata, (made.scale, made.zero_point), bits)


def _torchao_int8(layer: Layer) -> Kept | None:
    from torchao import quantization as ao

    if layer.kind != "Linear":
        return None
    made = _by_torchao(layer.weight.half(), ao.Int8WeightOnlyConfig())
    return Kept(made.dequantize().float(), made.qdata, (made.scale,), 8)


def _by_torchao(weight: Tensor, config: object) -> Any:
    from torchao import quantization as ao

    module = nn.Module()
    module.weight = nn.Parameter(weight.clone(), requires_grad=False)
    ao.quantize_(module, config, filter_fn=lambda module, name: True)
    return module.weight
