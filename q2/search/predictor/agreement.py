"""Whether labels say what was measured: the same layers sensitive, in the same order."""

from dataclasses import dataclass

import numpy as np

from q2.errors import SensitivityError
from q2.passes import TextTable
from q2.quant.sensitivity import SensitivityTable
from q2.search.metrics.intervals import Estimate
from q2.search.metrics.rank import spearman_estimate
from q2.search.predictor.label import Labels

__all__ = ["AGREES", "Agreement", "agreement"]

AGREES = 0.5
"""Spearman's correlation with what was measured below which labels are not offered without a warning."""
_TENTH = 0.1


@dataclass(frozen=True)
class Agreement:
    """How labels rank `layers` layers beside what was measured at a fidelity.

    `spearman` is between the spreads of scores and of noise; `found` of the `most` most sensitive layers, a tenth of
    all, are among as many by the labels.
    """

    fidelity: str
    layers: int
    spearman: Estimate
    found: int
    most: int

    @property
    def agrees(self) -> bool:
        """Whether the correlation is at least `AGREES`."""
        return bool(self.spearman.value >= AGREES)

    def table(self) -> TextTable:
        """Return it as a table of one row."""
        rho = self.spearman
        shown = f"{rho.value:.3f} ({rho.low:.3f} to {rho.high:.3f})"
        heads = ("measured alone at", "layers", "Spearman with the labels", "most sensitive tenth found")
        return TextTable(heads, ((self.fidelity, self.layers, shown, f"{self.found} of {self.most}"),))

    def warning(self) -> str:
        """Return a line for who would build from labels that disagree; empty where they agree."""
        if self.agrees:
            return ""
        rho = f"Spearman {self.spearman.value:.2f}, below {AGREES:g}"
        return f"these labels disagree with what was measured ({rho}): build from measurements: --strategy mixdq"


def agreement(labels: Labels, measured: SensitivityTable) -> Agreement:
    """Compare labels with measurements, layer by layer, for the layers that both contain.

    A layer's spread is over the labels' options that were measured, and its option in the base. Raises
    `SensitivityError` where they have fewer than two layers in common.
    """
    scores = labels.nodes.sum(2)
    spreads, noises = [], []
    for row, choice in zip(scores, labels.choices, strict=True):
        known = row[np.isfinite(row)]
        if choice in measured.sqnr_db and len(known) > 1:
            noise = measured.spread(choice, dict.fromkeys((*labels.options, measured.base.get(choice, "none"))))
            if np.isfinite(noise):
                spreads.append(float(np.ptp(known)))
                noises.append(noise)
    if len(spreads) < 2:
        count = f"{len(spreads)} of {len(labels.choices)} layers"
        raise SensitivityError(f"{count} were measured alone, expected two or more; of another denoiser?")
    most = max(1, round(_TENTH * len(spreads)))
    ours, theirs = ({*np.argsort(-np.array(values), kind="stable")[:most].tolist()} for values in (spreads, noises))
    return Agreement(measured.fidelity, len(spreads), spearman_estimate(spreads, noises), len(ours & theirs), most)
