"""SDNQ (``pip install sdnq``): plain, with a Hadamard rotation, a codebook, or a low-rank part by SVD."""

from collections.abc import Iterator
from functools import partial

import torch

from .bits import Kept, Layer, Setting

WIDTHS = (2, 3, 4, 5, 8)
GROUPS = {0: "automatic groups", -1: "rows", -2: "tensor"}
CODEBOOKS = ((0, "", False), (-1, "", False), (-1, "", True), (-1, "uint8", True), (-2, "", False), (-2, "", True))
RANKS = ((32, 0, "", False), (8, 64, "", False), (8, 64, "", True), (4, 64, "", True), (4, 32, "uint8", True))


def settings() -> Iterator[Setting]:
    for bits in WIDTHS:
        for method, rotated in (("SDNQ", False), ("SDNQ Hadamard", True)):
            for group, scales in ((16, ""), (32, ""), (64, ""), (128, ""), (16, "uint8"), (32, "uint8"), (64, "uint8")):
                yield _setting(method, bits, group, scales, use_hadamard=rotated)
            for group in (16, 32, 64, 128) if bits < 8 else ():
                yield _setting(method, bits, group, "", use_hadamard=rotated, signed=True)
        for rank, group, scales, rotated in RANKS:
            yield _setting("SDNQ SVD", bits, group, scales, use_svd=True, svd_rank=rank, use_hadamard=rotated)
        for group in (32, 64) if bits < 8 else ():
            yield _setting("SDNQ SVD", bits, group, "", signed=True, use_svd=True, svd_rank=4, use_hadamard=True)
        if bits < 8:  # a row has not many more values than a codebook of 256
            for group, scales, rotated in CODEBOOKS:
                yield _setting("SDNQ codebook", bits, group, scales, use_codebook=True, use_hadamard=rotated)


def _setting(
    method: str, bits: int, group: int, scales: str, *, signed: bool = False, **options: bool | int
) -> Setting:
    """Return a setting of unsigned integers, which SDNQ recommends below 6 bits, or signed ones."""
    parts = ["signed"] if signed else []
    parts += [GROUPS.get(group, f"groups of {group}")]
    parts += [f"{scales or 'float16'} {'levels' if options.get('use_codebook') else 'scales'}"]
    parts += [f"rank {options['svd_rank']}"] if "svd_rank" in options else []
    parts += ["rotated"] if options["use_hadamard"] and method != "SDNQ Hadamard" else []
    about = {"weights_dtype": f"int{bits}" if signed or bits == 8 else f"uint{bits}", "group_size": group}
    found = partial(_quantize, bits, {**options, **about, "scale_dtype": scales or None})
    return Setting(method, bits, ", ".join(parts), found)


def _quantize(bits: int, options: dict[str, object], layer: Layer) -> Kept:
    from sdnq.quantizer import sdnq_quantize_layer_weight

    torch.manual_seed(0)  # its SVD is a random one
    about = {"layer_class_name": layer.kind, "torch_dtype": torch.float16, "dequantize_fp32": False, **options}
    dequantizer, held = sdnq_quantize_layer_weight(layer.weight.clone(), **about)
    kept = {name: tensor for name, tensor in held.items() if tensor is not None}
    wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    made = dequantizer(**wide, skip_compile=True, dtype=torch.float32)
    codes = kept.pop("weight")
    return Kept(made.reshape(layer.weight.shape).clone(), codes, tuple(kept.values()), bits)
