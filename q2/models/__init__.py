"""Modules that are no denoisers: networks that ship with q2, or any factory's, with data, training and evaluation."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.models.data.splits import Data
    from q2.models.evaluation import Score, evaluate
    from q2.models.model import Model, load_model
    from q2.models.training import train
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["Data", "Model", "Score", "evaluate", "load_model", "train"]
