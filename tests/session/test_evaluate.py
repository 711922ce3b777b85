"""One recipe measured again gives what a search measured of it, and layers that are not there are one line."""

import json
from pathlib import Path

import pytest

import q2
from q2.errors import ConfigError, PluginError, Q2Error
from q2.search.metrics.intervals import Estimate
from q2.session.evaluated import Difference

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


def test_recipes_and_a_saved_folder_are_compared_with_the_first_in_pairs(tmp_path: Path) -> None:
    small = {"search.evaluation.images": 12, "search.evaluation.steps": 2, "search.target": "latent-SQNR - 4*avg_bits"}
    given = {"samples.images": 0, "passes.stats.samples": 0, "search.evaluation.metrics": ["judge-fid-fp", "SQNR"]}
    run = q2.open("digits-dit.toml", small | given)
    fine, coarse = (dict.fromkeys(run.outline.choices, option) for option in ("uaq-6", "uaq-3"))
    saved = run.transform(coarse).save(tmp_path / "saved")
    found = run.evaluate_all({"fine": fine, "coarse": coarse}, folder=tmp_path / "run", saved=[saved])
    assert list(found.trials) == ["fine", "coarse", str(saved)]
    beside = found.differences["coarse"]
    assert {name: beside[name].said for name in ("latent-SQNR", "avg_bits", "judge-fid-fp")} == {
        "latent-SQNR": "worse",
        "avg_bits": "better",
        "judge-fid-fp": "worse",
    }
    exact = found.trials["coarse"].metrics["avg_bits"] - found.trials["fine"].metrics["avg_bits"]
    assert beside["avg_bits"].estimate.value == pytest.approx(exact)
    first, second = (found.trials[title].intervals["latent-SQNR"] for title in ("fine", "coarse"))
    paired = beside["latent-SQNR"].estimate
    assert paired.high - paired.low < (first[1] - first[0]) + (second[1] - second[0])
    for name, value in found.trials["coarse"].metrics.items():
        assert found.trials[str(saved)].metrics[name] == pytest.approx(value, rel=1e-3), name
    assert found.full.metrics["latent-SQNR"] == 100
    report = json.loads((tmp_path / "run" / "report.json").read_text(encoding="utf-8"))
    assert report["differences"]["coarse"]["latent-SQNR"]["verdict"] == "worse"
    assert report["beside"] == "fine"


def test_a_saved_folder_is_evaluated_with_the_activations_that_it_quantizes(tmp_path: Path) -> None:
    given = {"samples.images": 0, "passes.stats.samples": 0, "search.evaluation.metrics": ["bops"]}
    run = q2.open("digits-dit.toml", SETTINGS | given)
    fine = dict.fromkeys(run.outline.choices, "uaq-8")
    both = q2.open("digits-dit.toml", SETTINGS | given | {"passes.quantize-activations.bits": 4})
    saved = both.transform(fine).save(tmp_path / "saved")
    plain, other = run.evaluate_all({"fine": fine}, saved=[saved]).trials.values()
    same = both.evaluate_all({"fine": fine}, saved=[saved]).trials
    assert other.metrics["SQNR"] < plain.metrics["SQNR"] - 3
    assert other.metrics["bops"] < plain.metrics["bops"] / 2
    for trials in (other, same[str(saved)]):
        assert trials.metrics == pytest.approx(same["fine"].metrics, rel=1e-3)
    assert other.metrics["avg_bits"] == plain.metrics["avg_bits"]


def test_few_images_say_so() -> None:
    doubt = Difference(Estimate(0.2, -1.0, 1.4), "within noise", 12)
    assert (doubt.said, doubt.shown) == ("within noise, but 12 images are few", "+0.2 (-1 to +1.4)")
    assert Difference(Estimate(0.2, -1.0, 1.4), "within noise", 300).said == "within noise"
    assert Difference(Estimate(-0.0, -0.5, 0.5), "within noise", 300).shown == "+0 (-0.5 to +0.5)"


def test_a_saved_folder_of_another_denoiser_is_one_line(tmp_path: Path) -> None:
    tiny = q2.open("dit.toml", {"denoiser.tiny": True, "samples.images": 0, "passes.stats.samples": 0})
    saved = tiny.transform({str(tiny.layers.rows[0][0]): "uaq-4"}).save(tmp_path / "saved")
    run = q2.open("digits-dit.toml", SETTINGS)
    with pytest.raises(ConfigError, match="is of another denoiser than digits-dit: its layers differ"):
        run.evaluate_all({"one": {"proj_out_2": "uaq-2"}}, saved=[saved])
