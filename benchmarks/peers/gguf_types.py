"""GGUF block types: by the ``gguf`` package where it quantizes, by llama.cpp's libggml-base where it does not."""

import ctypes
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .bits import Kept, Layer, Setting

NUMPY = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "MXFP4": 4}
NATIVE = {"Q2_K": 2, "Q3_K": 3, "Q4_K": 4, "Q5_K": 5, "Q6_K": 6, "IQ2_S": 2, "IQ3_S": 3, "IQ4_NL": 4, "IQ4_XS": 4}
WIDE = 256


def libggml(given: str = "") -> Path | None:
    """Return llama.cpp's libggml-base: `given`, or the one that comes with llama-cpp-python."""
    if given:
        return Path(given)
    found = find_spec("llama_cpp")
    places = found.submodule_search_locations if found else None
    paths = [path for place in places or () for path in Path(place).glob("lib/*ggml-base.*")]
    return paths[0] if paths else None


def settings(library: Path | None) -> Iterator[Setting]:
    for name, bits in NUMPY.items():
        yield Setting(f"GGUF {name}", bits, "", partial(_quantize, name, None))
    if library is not None:
        for name, bits in NATIVE.items():
            yield Setting(f"GGUF {name}", bits, "", partial(_quantize, name, library))


def _rows(weight: Tensor, block: int) -> Tensor | None:
    """Return the rows that are cut into blocks: of 256 where its own do not fit, as GGUF files of SDXL have it."""
    if weight.shape[-1] % WIDE and weight.numel() % WIDE == 0:
        return weight.reshape(-1, WIDE)
    return weight.reshape(-1, weight.shape[-1]) if weight.shape[-1] % block == 0 else None


def _quantize(name: str, library: Path | None, layer: Layer) -> Kept | None:
    import gguf

    qtype = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[qtype]
    rows = _rows(layer.weight, block)
    if rows is None:
        return None
    values = np.ascontiguousarray(rows.numpy())
    blocks = gguf.quantize(values, qtype) if library is None else _native(library, int(qtype), values, block, size)
    made = torch.from_numpy(gguf.dequantize(blocks, qtype)).reshape(layer.weight.shape)
    return Kept(made.float(), torch.from_numpy(blocks))


def _native(library: Path, qtype: int, values: np.ndarray, block: int, size: int) -> np.ndarray:
    """Quantize rows, float32 (rows, columns), without an importance matrix; returns bytes, uint8 (rows, ...)."""
    chunk = ctypes.CDLL(str(library)).ggml_quantize_chunk
    pointer, long = ctypes.c_void_p, ctypes.c_int64
    chunk.argtypes, chunk.restype = [ctypes.c_int, pointer, pointer, long, long, long, pointer], ctypes.c_size_t
    rows, columns = values.shape
    made = np.empty((rows, columns // block * size), np.uint8)
    written = chunk(qtype, values.ctypes.data, made.ctypes.data, 0, rows, columns, None)
    assert written == made.nbytes, f"{written} bytes written, expected {made.nbytes}"
    return made
