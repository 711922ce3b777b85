"""One recipe measured again gives what a search measured of it, and layers that are not there are one line."""

import pytest

import q2
from q2.errors import ConfigError, PluginError, Q2Error

SETTINGS = {
    "search.evaluation.fidelity": "forward",
    "search.evaluation.inputs": 4,
    "search.target": "SQNR - 4*avg_bits",
    "samples.images": 0,
}


def test_a_recipe_has_the_metrics_of_the_run_and_layers_it_leaves_out_stay() -> None:
    run = q2.open("digits-dit.toml", SETTINGS)
    one = run.evaluate({"proj_out_2": "uaq-2"})
    assert one.recipe["proj_out_2"] == "uaq-2"
    assert set(one.recipe.values()) == {"uaq-2", "none"}
    assert 0 < one.metrics["SQNR"] < 60
    low, high = one.intervals["SQNR"]
    assert low <= one.metrics["SQNR"] <= high
    all_layers = run.evaluate(dict.fromkeys(run.outline.choices, "uaq-2"))
    assert all_layers.metrics["SQNR"] < one.metrics["SQNR"]
    assert all_layers.metrics["avg_bits"] < one.metrics["avg_bits"]


def test_a_layer_that_is_not_there_is_one_line() -> None:
    run = q2.open("digits-dit.toml", SETTINGS)
    with pytest.raises(ConfigError, match="no layer is named 'proj_out_3'; did you mean 'proj_out_2'"):
        run.evaluate({"proj_out_3": "uaq-4"})
    with pytest.raises(Q2Error, match="no quantizer named 'kmeens'"):
        run.evaluate({"proj_out_2": "kmeens-4"})
    with pytest.raises(PluginError, match="no metric named 'PSNRR'; did you mean 'PSNR'"):
        run.evaluate({"proj_out_2": "uaq-4"}, metrics=["PSNRR"])


def test_a_layer_in_two_parts_is_read_as_a_transform_reads_it() -> None:
    name = "up_blocks.0.resnets.0.conv1"
    run = q2.open("digits-sdxl.toml", SETTINGS)
    assert run.evaluate({name: "uaq-4"}).recipe[f"{name}#1"] == "uaq-4"
    both = run.evaluate({name: "uaq-4", f"{name}#1": "uaq-3"}).recipe
    assert (both[name], both[f"{name}#1"]) == ("uaq-4", "uaq-3")
