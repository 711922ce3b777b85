"""Calls of a denoiser at full precision: what it was given while images were made, and what it returned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree as pytree

from q2.denoisers.base import Denoiser
from q2.denoisers.samples import Samples
from q2.graph import Graph

__all__ = ["RecordedCall", "output_of", "outputs_of", "record_calls"]


@dataclass(frozen=True, eq=False)
class RecordedCall:
    """One call of the denoiser at full precision: its arguments, and the tensor (N, ...) it returned, on the CPU.

    `images` (N,) are the numbers of the images that were being made, and `labels` (N,) their classes or prompts.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Tensor
    images: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]


def record_calls(
    denoiser: Denoiser, graph: Graph, count: int, *, seed: int, steps: int, batch: int
) -> tuple[list[RecordedCall], Samples]:
    """Make `count` images in `steps` steps, and return every call of the denoiser on the way, and the images."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
    numbers: list[Sequence[int]] = []

    def keep(module: object, args: tuple[Any, ...], kwargs: dict[str, Any], output: object) -> None:
        given = pytree.tree_map_only(Tensor, lambda leaf: leaf.detach().cpu().clone(), (args, kwargs))
        calls.append((*given, output_of(output).detach().cpu().clone()))
        numbers.append(denoiser.drawing or range(count))

    handle = denoiser.model.register_forward_hook(keep, with_kwargs=True)
    try:
        with graph.installed(), torch.no_grad():
            made = denoiser.generate(count, seed=seed, steps=steps, batch=batch)
    finally:
        handle.remove()
    labels, found = np.asarray(made.labels), []
    for (args, kwargs, output), drawing in zip(calls, numbers, strict=True):
        images = np.resize(list(drawing), len(output))  # guidance has every image twice, half a batch apart
        found.append(RecordedCall(args, kwargs, output, images, labels[images]))
    return found, made


def outputs_of(denoiser: Denoiser, graph: Graph, call: RecordedCall) -> Tensor:
    """Return the denoiser's output for the arguments of a call, on the CPU, in the shape of ``call.output``."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda leaf: leaf.to(denoiser.device), (call.args, call.kwargs))
    with graph.installed(), torch.no_grad():
        return output_of(denoiser.model(*args, **kwargs)).cpu()


def output_of(returned: object) -> Tensor:
    """Return the first tensor, of any shape, in what a model returned."""
    return next(leaf for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor))
