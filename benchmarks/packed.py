"""SDXL's U-Net at full size, packed: peak memory while loading, and how fast a CPU decodes.

    python -m benchmarks.packed [--bits 4] [--folder /tmp/q2-packed]

The weights are random codes: neither memory nor speed depends on their values.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.memory import resident
from q2.denoisers.saving.save import packed
from q2.graph.layers import WEIGHT_TYPES
from q2.quant import Option, builtin_quantizer
from q2.quant.packed.layers import Packed, PackedPart, packed_layer
from q2.quant.packed.packing import packed_bytes

OPTIONS = ("uaq-4", "uaq-3", "kmeans-c-4", "kmeans-c-3", "kmeans-a-4", "kmeans-a-3")
SIDE = 2048


def random_layer(module: nn.Module, option: str, device: str = "cpu") -> Packed:
    """Return a packed float16 layer like `module`, which may be on meta, with random codes and parameters."""
    chosen = Option.parse(option)
    shape = cast(Tensor, module.weight).shape
    size = (shape.numel() // shape[0]) ** -0.5  # of what keeps a signal's size from layer to layer
    with torch.device(device):
        codes = torch.randint(0, 256, (packed_bytes(shape.numel(), chosen.bits),), dtype=torch.uint8)
        buffers = {"codes_0": codes}
        if chosen.quantizer == "uaq":
            buffers["scale_0"] = (torch.rand(shape[0]) * size * 2 ** (2 - chosen.bits)).half()
            buffers["zero_0"] = torch.full((shape[0],), 2 ** (chosen.bits - 1), dtype=torch.int16)
        else:
            books = (shape[0], 2**chosen.bits) if chosen.quantizer == "kmeans-c" else (2**chosen.bits,)
            buffers["codebook_0"] = (torch.randn(books) * size).sort(-1).values.half()
    part = PackedPart(chosen, None, None, builtin_quantizer(chosen.quantizer))
    with torch.device(device):
        return cast(Packed, packed_layer(module, [part], buffers, torch.float16))


def replace_layers(model: nn.Module, new: Callable[[nn.Module], nn.Module]) -> None:
    """Put what `new` makes of each weight layer in its place."""
    for name, module in [*model.named_modules()]:
        if isinstance(module, WEIGHT_TYPES):
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, new(module))


def filled(kind: Any, config: Mapping[str, Any], option: str, device: str = "cpu", rest: float = 0.0) -> Any:
    """Return a diffusers model in float16 whose weight layers are packed and random; biases are 0, the rest `rest`."""
    with torch.device("meta"):
        model = kind(**config).half().requires_grad_(False)
    replace_layers(model, lambda module: random_layer(module, option, device))
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None and tensor.is_meta:
                    held = torch.full(tensor.shape, 0 if name == "bias" else rest, dtype=tensor.dtype, device=device)
                    tensors[name] = nn.Parameter(held, False) if isinstance(tensor, nn.Parameter) else held
    return model.eval()


def decoding(option: str) -> float:
    """Return how many million weights a second a square Linear decodes: the best of five."""
    layer = random_layer(nn.Linear(SIDE, SIDE, device="meta"), option)
    times = []
    for _ in range(6):
        start = time.perf_counter()
        _ = layer.weight
        times.append(time.perf_counter() - start)
    return SIDE * SIDE / min(times) / 1e6


def loaded(folder: str) -> None:
    """Load the folder and print what that took."""
    from diffusers import UNet2DConditionModel

    before, start = resident(peak=True), time.perf_counter()
    model = UNet2DConditionModel.from_pretrained(folder)
    print(f"loaded in {time.perf_counter() - start:.1f} s: {before:.3f} GiB before, peak {resident(peak=True):.3f} GiB")
    total = sum(tensor.nbytes for tensor in model.state_dict().values()) / 2**30
    print(f"packed size {total:.3f} GiB, target 1.15 x that + 1 GiB = {1.15 * total + 1:.3f} GiB")
    start, weights = time.perf_counter(), 0
    for layer in model.modules():
        if isinstance(layer, Packed):
            weights += layer.weight.numel()
    seconds = time.perf_counter() - start
    print(f"every weight decoded once: {weights / seconds / 1e6:.0f} M weights/s, peak {resident(peak=True):.3f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/q2-packed"))
    parser.add_argument("--load", action="store_true", help="only load the folder")
    given = parser.parse_args()
    if given.load:
        loaded(str(given.folder))
        return
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for option in OPTIONS:
        print(f"{option:<12} {decoding(option):8.0f} M weights/s")
    from diffusers import UNet2DConditionModel

    from q2.denoisers.sdxl import SDXL

    try:
        model = filled(UNet2DConditionModel, SDXL.config, f"uaq-{given.bits}")
        with packed(model, "float16") as size:
            model.save_pretrained(given.folder)
        print(f"SDXL's U-Net at uaq-{given.bits}: {size / 2**30:.3f} GiB in its weight layers")
        del model
        subprocess.run([sys.executable, "-m", "benchmarks.packed", "--load", "--folder", str(given.folder)], check=True)
    finally:
        shutil.rmtree(given.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
