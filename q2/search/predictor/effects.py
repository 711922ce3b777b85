"""Effects: what an option of a layer does to the predicted target, in the target's unit, all else as in some trials."""

from __future__ import annotations

import numpy as np

from q2.errors import PredictorError
from q2.progress import Progress, silent
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.space import NodeSpace
from q2.search.predictor.trained import Trained

__all__ = ["effects"]


def effects(space: NodeSpace, trained: Trained, chosen: Ints, progress: Progress = silent) -> Floats:
    """Return the mean prediction with an option in place of a layer's own (choices, options, folds).

    `chosen` (trials, choices) are the trials that are averaged over; a few are enough. Their spread over the options
    says how sensitive a layer is as the whole network sees it, where the node scores of `label` see the layer alone.
    Partial dependence, Friedman, Greedy Function Approximation (2001), Sec. 8.2. Raises PredictorError.
    """
    if not len(chosen):
        raise PredictorError("effects: expected one trial or more to start from")
    count = len(space.options)
    found = np.zeros((len(space.choices), count, len(trained.folds)))
    for i in progress(range(len(space.choices)), "effects of layers", len(space.choices)):
        changed = np.repeat(chosen, count, axis=0)
        changed[:, i] = np.tile(np.arange(count), len(chosen))
        found[i] = trained.each(space.graphs(changed, {})).reshape(len(trained.folds), -1, count).mean(1).T
    return found
