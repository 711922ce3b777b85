"""Measurements of single layers: trials in which one layer alone is quantized, whichever strategy asked for them."""

import math
from collections.abc import Iterable

from q2.quant.options import NONE
from q2.quant.sensitivity import AloneFidelity, SensitivityTable, signal_of
from q2.search.trials.trial import Trial

__all__ = ["singles"]

_FIDELITIES: tuple[AloneFidelity, ...] = ("few-step", "forward")


def singles(trials: Iterable[Trial], denoiser: str = "", fingerprint: str = "") -> SensitivityTable | None:
    """Return the measurements, at the fidelity with the most layers; None where fewer than two layers were measured.

    >>> one = Trial({"q": "uaq-3", "k": "none"}, {"SQNR": 20.0}, fidelity="forward")
    >>> other = Trial({"q": "none", "k": "uaq-3"}, {"SQNR": 10.0}, fidelity="forward")
    >>> singles([one, other]).ranked()[0][0]
    'k'
    """
    found: dict[AloneFidelity, SensitivityTable] = {
        fidelity: SensitivityTable(denoiser, fingerprint, fidelity, base_db=math.inf) for fidelity in _FIDELITIES
    }
    for trial in trials:
        table = next((each for key, each in found.items() if key == trial.fidelity), None)
        value = trial.metrics.get(signal_of(trial.fidelity))
        quantized = [layer for layer, option in trial.recipe.items() if option != NONE]
        if table is not None and value is not None and trial.state == "complete" and len(quantized) == 1:
            table.sqnr_db.setdefault(quantized[0], {})[trial.recipe[quantized[0]]] = value
    best = max(found.values(), key=lambda table: len(table.sqnr_db))
    return best if len(best.sqnr_db) > 1 else None
