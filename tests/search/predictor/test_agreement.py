"""Labels beside what was measured: whether the same layers are sensitive, and what is said where they are not."""

import numpy as np
import pytest

from q2.errors import SensitivityError
from q2.quant.sensitivity import SensitivityTable
from q2.search.predictor.agreement import agreement
from q2.search.predictor.label import Labels

LAYERS = tuple(f"layer{i}" for i in range(20))


def labels(spreads: list[float]) -> Labels:
    """Return labels whose scores of two options lie so far apart, in two folds together."""
    nodes = np.zeros((20, 3, 2))
    nodes[:, 1] = -np.array(spreads)[:, None] / 2
    nodes[:, 2] = np.nan
    return Labels(("uaq-4", "uaq-3", "none"), LAYERS, nodes, ())


def measured(noise: list[float]) -> SensitivityTable:
    rows = {layer: {"uaq-4": 90.0, "uaq-3": float(-10 * np.log10(n))} for layer, n in zip(LAYERS, noise, strict=True)}
    return SensitivityTable("net", "", "forward", sqnr_db=rows)


def test_the_correlation_and_the_share_of_the_most_sensitive_tenth() -> None:
    noise = [0.001 * (i + 1) for i in range(20)]
    same = agreement(labels([float(i) for i in range(20)]), measured(noise))
    assert (same.layers, same.spearman.value, same.found, same.most) == (20, 1.0, 2, 2)
    assert same.warning() == ""
    swapped = [float(i) for i in range(20)]
    swapped[0], swapped[19] = swapped[19], swapped[0]
    half = agreement(labels(swapped), measured(noise))
    assert half.spearman.value == pytest.approx(1 - 6 * 2 * 19**2 / (20 * (20**2 - 1)))
    assert (half.found, half.most) == (1, 2)
    assert "1 of 2" in str(half.table())


def test_labels_that_disagree_are_warned_of_in_a_line() -> None:
    noise = [0.001 * (i + 1) for i in range(20)]
    found = agreement(labels([float(-i) for i in range(20)]), measured(noise))
    assert found.spearman.value == pytest.approx(1.0)  # a spread has no sign
    found = agreement(labels([1.0 / (i + 1) for i in range(20)]), measured(noise))
    assert found.spearman.value == pytest.approx(-1.0)
    assert found.warning().startswith("these labels disagree with what was measured (Spearman -1.00, below 0.5)")
    flat = agreement(labels([1.0] * 20), measured(noise))
    assert "Spearman nan" in flat.warning()


def test_layers_that_were_not_measured_are_left_out_and_another_denoiser_is_refused() -> None:
    table = measured([0.001 * (i + 1) for i in range(20)])
    for layer in LAYERS[:5]:
        del table.sqnr_db[layer]
    table.sqnr_db["layer7"] = {"uaq-3": float("nan")}
    assert agreement(labels([float(i) for i in range(20)]), table).layers == 14
    table.sqnr_db.clear()
    with pytest.raises(SensitivityError, match="0 of 20 layers were measured alone, expected two or more"):
        agreement(labels([1.0] * 20), table)
