"""Scores of a module on a split of its data: accuracy, loss and seconds."""

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from q2.errors import Q2Error
from q2.models.data.splits import Data, Split

__all__ = ["Score", "evaluate"]


@dataclass(frozen=True)
class Score:
    """Share of correct answers, mean cross-entropy in nats, over so many samples, in so many seconds."""

    accuracy: float
    loss: float
    samples: int
    seconds: float


def evaluate(module: nn.Module, data: Data, split: Split = "validation", *, samples: int = 0) -> Score:
    """Return the score of `module`, which maps inputs (N, ...) to logits (N, classes), on the first `samples` (0: all).

    The module is in evaluation mode meanwhile. Raises `Q2Error` for outputs that are no logits or not finite.
    """
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    training, right, loss, count = module.training, 0, 0.0, 0
    start = time.perf_counter()
    module.eval()
    try:
        with torch.no_grad():
            for inputs, classes in data.batches(split, samples=samples):
                logits = logits_of(module(inputs.to(device)))
                wanted = classes.to(device)
                loss += float(F.cross_entropy(logits, wanted, reduction="sum"))
                right += int((logits.argmax(1) == wanted).sum())
                count += len(classes)
    finally:
        module.train(training)
    return Score(right / count, loss / count, count, time.perf_counter() - start)


def logits_of(output: object) -> torch.Tensor:
    """Return a module's output as logits (N, classes). Raises `Q2Error`."""
    logits = getattr(output, "logits", output)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise Q2Error(f"the module's output is {found}, expected logits (samples, classes)")
    if not torch.isfinite(logits).all():
        raise Q2Error(f"the module's output has {int((~torch.isfinite(logits)).sum())} values that are NaN or infinite")
    return logits
