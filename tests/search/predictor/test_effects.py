"""Effects are what the predictor says when one option is put in the place of another."""

import pytest

from q2.errors import PredictorError
from q2.search.predictor.effects import effects
from tests.search.predictor.spaces import space, trained, trials


def test_effects_are_mean_predictions_with_one_option_changed() -> None:
    of, done = space("dit"), trained("dit")
    chosen, _ = trials(of, 3, seed=5)
    found = effects(of, done, chosen)
    assert found.shape == (len(of.choices), len(of.options), len(done.folds))
    changed = chosen.copy()
    changed[:, 4] = 2
    assert found[4, 2].mean() == pytest.approx(done.predict(of.graphs(changed, {}))[0].mean(), rel=1e-5)
    with pytest.raises(PredictorError, match="^effects: expected one trial or more"):
        effects(of, done, chosen[:0])
