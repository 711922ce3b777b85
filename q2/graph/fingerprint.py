"""A short name for the weights of a model, independent of how its files are cut into shards."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["fingerprint", "fingerprint_of"]

_SAMPLES = 4096


def fingerprint(model: nn.Module, *, exact: bool = False) -> str:
    """Return 16 hex digits over names, shapes and up to 4096 evenly spaced values of every tensor of the state dict.

    With `exact` every value counts. Values are compared in float16, so the same checkpoint loaded in float16 and in
    float32 has one fingerprint.
    Weights on the meta device have no values; then names and shapes alone count.

    >>> fingerprint(nn.Linear(2, 2, device="meta"))
    '1896f1f64dd8925d'
    """
    return fingerprint_of(model.state_dict().items(), exact=exact)


def fingerprint_of(tensors: Iterable[tuple[str, Tensor]], *, exact: bool = False) -> str:
    """Return the fingerprint of the model whose state dict has these entries, names and tensors of any shape, in order.

    >>> fingerprint_of(nn.Linear(2, 2, device="meta").state_dict().items())
    '1896f1f64dd8925d'
    """
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        if not tensor.is_meta:
            flat = tensor.detach().reshape(-1)
            stride = 1 if exact else max(1, -(-flat.numel() // _SAMPLES))
            digest.update(flat[::stride].to("cpu", torch.float16).numpy().tobytes())
    return digest.hexdigest()[:16]
