"""Writes a search's trials, or a training's epochs, for TensorBoard. Off unless a run asks for it.

It does with ``[plugins] modules = ["q2.plugins.tensorboard"]``.

Every metric and the target's value are scalars by the trial's number, and the best recipe so far is a text, in
``tensorboard/`` of the search's folder.
"""

import atexit
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from q2.errors import PluginError
from q2.plugins.spec import Trial, hookimpl

__all__ = ["q2_after_epoch", "q2_after_trial"]

try:
    from tensorboardX import SummaryWriter
except ImportError:
    raise PluginError("TensorBoard's files need tensorboardX: pip install tensorboardX") from None


@hookimpl
def q2_after_trial(trial: Trial, value: float | None, folder: Path) -> None:
    """Write what was measured, and the recipe if none was better before."""
    log = _log(folder.absolute())
    if trial.state == "complete":
        log.write(trial, value)


@hookimpl
def q2_after_epoch(epoch: int, scores: Mapping[str, float], folder: Path) -> None:
    """Write what an epoch of a training came to."""
    writer = _log(folder.absolute()).writer
    for name, value in scores.items():
        if name != "epoch":
            writer.add_scalar(f"train/{name}", value, epoch)


@lru_cache(maxsize=1)
def _log(folder: Path) -> "_Log":
    return _Log(folder / "tensorboard")


class _Log:
    """The event files of one search."""

    def __init__(self, folder: Path) -> None:
        self.writer: Any = SummaryWriter(str(folder), flush_secs=1)
        atexit.register(self.writer.close)  # its thread does not wait
        self.best, self.count = -math.inf, 0

    def write(self, trial: Trial, value: float | None) -> None:
        step = self.count if trial.number is None else trial.number
        self.count += 1
        for name, measured in trial.metrics.items():
            self.writer.add_scalar(f"{trial.fidelity}/{name}", measured, step)
        if value is not None:
            self.writer.add_scalar(f"{trial.fidelity}/target", value, step)
            if value > self.best:
                self.best = value
                rows = "\n".join(f"| {layer} | {option} |" for layer, option in trial.recipe.items())
                table = f"{trial.label}, target {value:.6g}\n\n| layer | option |\n| --- | --- |\n{rows}"
                self.writer.add_text("best recipe", table, step)
