"""Training of a module on its data: an optimizer, epochs, and a score after each."""

from collections.abc import Callable
from itertools import islice

import torch
from torch import nn
from torch.nn import functional as F

from q2.models.data.splits import Data
from q2.models.evaluation import Score, evaluate, logits_of
from q2.settings import TrainSettings

__all__ = ["train"]

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def train(
    module: nn.Module,
    data: Data,
    settings: TrainSettings | None = None,
    *,
    seed: int = 0,
    after: Callable[[int, float, Score], None] = lambda epoch, loss, score: None,
) -> Score:
    """Train `module` in place for classification, and return its score on the validation split.

    `after` is told of every epoch: its number from 1, the mean training loss, the validation score. The same `seed`
    gives the same weights on one machine. The module is left in evaluation mode. Raises `Q2Error` where the outputs
    become NaN or infinite.
    """
    settings = settings or TrainSettings()
    device = next((tensor.device for tensor in module.parameters()), torch.device("cpu"))
    for parameter in module.parameters():
        parameter.requires_grad_()
    optimizer = _OPTIMIZERS[settings.optimizer](
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    steps = settings.steps or -(-data.count("train") // data.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps + 1, cycle_momentum=False
    )
    score = Score(0.0, 0.0, 0, 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for epoch in range(1, settings.epochs + 1):
            module.train()
            losses = []
            for inputs, classes in islice(data.batches("train", shuffle=seed * 10_007 + epoch), steps):
                if len(inputs) < 2:  # a batch norm has no variance of one sample
                    continue
                loss = F.cross_entropy(logits_of(module(inputs.to(device))), classes.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
            module.eval()
            score = evaluate(module, data, "validation")
            after(epoch, sum(losses) / max(len(losses), 1), score)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return score
