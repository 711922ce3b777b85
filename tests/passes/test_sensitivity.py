"""The sensitivity pass: each layer alone, against what is measured by hand; stopped, gone on with, and refused."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import q2
from q2.denoisers import Denoiser
from q2.denoisers.pairs import sqnr
from q2.denoisers.recorded import outputs_of, record_calls
from q2.errors import ConfigError, PassError, SensitivityError
from q2.graph import Graph
from q2.passes import PassContext, PassManager, Report, Step
from q2.passes.analysis.sensitivity import LayerSensitivity
from q2.passes.transform.apply import apply_options
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.quant import Option, Recipe, parts_of
from q2.quant.sensitivity import SensitivityTable, noise_of

LAYERS, OPTIONS = "transformer_blocks.1.attn*", ("uaq-3", "uaq-2")


@pytest.fixture
def made() -> tuple[Denoiser, Graph]:
    denoiser = q2.denoiser("dit", tiny=True)
    return denoiser, q2.trace(denoiser.model, denoiser.example_inputs())


def step(folder: Path, **options: object) -> LayerSensitivity:
    few = LayerSensitivity(LAYERS, options=OPTIONS, images=2, steps=2, seed=3, file=folder / "measured.json")
    return replace(few, **options)  # type: ignore[arg-type]


def context(denoiser: Denoiser, said: list[Step] | None = None) -> PassContext:
    return PassContext(denoiser=denoiser, show=(said if said is not None else []).append)


def table(report: Report) -> SensitivityTable:
    found = report.data["sensitivity"]
    assert isinstance(found, dict)
    rows = {choice: dict(row) for choice, row in found["sqnr_db"].items()}
    return SensitivityTable(
        "", "", "forward", base=found["base"]["layers"], base_db=found["base"]["sqnr_db"], sqnr_db=rows
    )


def by_hand(denoiser: Denoiser, graph: Graph, recipe: dict[str, str]) -> float:
    """Return the mean SQNR of outputs with a recipe, from calls that are recorded at full precision."""
    apply_options(graph, dict.fromkeys(graph.choices, Option.parse("none")), context(denoiser))
    calls, _ = record_calls(denoiser, graph, 2, seed=3, steps=2, batch=100)
    apply_options(graph, {name: Option.parse(text) for name, text in recipe.items()}, context(denoiser))
    made = np.concatenate([np.asarray(outputs_of(denoiser, graph, call)) for call in calls])
    full = np.concatenate([np.asarray(call.output) for call in calls])
    return float(sqnr(made, full).mean())  # every image has as many inputs


def test_each_layer_is_measured_alone_as_by_hand_and_the_graph_is_left_as_it_was(
    made: tuple[Denoiser, Graph], tmp_path: Path
) -> None:
    denoiser, graph = made
    Quantize(by="regex", rules={"attn": "uaq-4"}).run(graph, context(denoiser))
    QuantizeActivations(bits=8).run(graph, context(denoiser))
    before = {name: (layer.module, parts_of(layer.module)) for name, layer in graph.weight_layers.items()}
    weights = {name: layer.module.weight.clone() for name, layer in graph.weight_layers.items()}  # type: ignore[operator]
    rewrites, said = dict(graph.rewrites), list[Step]()
    report = step(tmp_path).run(graph, context(denoiser, said))
    assert "8 measurements of" in said[0].summary
    assert dict(graph.rewrites) == rewrites
    for name, layer in graph.weight_layers.items():
        assert (layer.module, parts_of(layer.module)) == before[name]
        assert torch.equal(layer.module.weight, weights[name])  # type: ignore[arg-type]
    found = table(report)
    assert found.base_db == 100
    assert [len(row) for row in found.sqnr_db.values()] == [2, 2, 2, 2]
    graph.rewrite(QuantizeActivations.name, None)
    for choice in ("transformer_blocks.1.attn1.to_q", "transformer_blocks.1.attn1.to_out.0"):
        expected = by_hand(denoiser, graph, {choice: "uaq-2"})
        assert found.sqnr_db[choice]["uaq-2"] == pytest.approx(expected, abs=1e-3)
        assert found.noise(choice, "uaq-2") == pytest.approx(10 ** (-expected / 10), rel=1e-3)


def test_from_a_recipe_it_says_what_each_option_gains(made: tuple[Denoiser, Graph], tmp_path: Path) -> None:
    denoiser, graph = made
    recipe = dict.fromkeys(graph.choices, "uaq-3")
    Recipe.of(recipe, denoiser.label, denoiser.fingerprint, 3.0).save(tmp_path / "base.toml")
    measuring = step(tmp_path, options=("uaq-4",), base=tmp_path / "base.toml")
    found = table(measuring.run(graph, context(denoiser)))
    choice = "transformer_blocks.1.attn1.to_v"
    base, better = by_hand(denoiser, graph, recipe), by_hand(denoiser, graph, recipe | {choice: "none"})
    assert found.base_db == pytest.approx(base, abs=1e-3)
    assert set(found.sqnr_db[choice]) == {"uaq-4", "none"}
    assert found.gain(choice, "none") == pytest.approx(noise_of(base) - noise_of(better), abs=1e-5)
    assert found.gain(choice, "uaq-3") == 0


def test_latents_are_compared_at_few_steps(made: tuple[Denoiser, Graph], tmp_path: Path) -> None:
    denoiser, graph = made
    found = table(step(tmp_path, fidelity="few-step", layers="*1.attn1.to_q").run(graph, context(denoiser)))
    full = denoiser.generate(2, seed=3, steps=2).latents
    apply_options(graph, {"transformer_blocks.1.attn1.to_q": Option.parse("uaq-2")}, context(denoiser))
    with graph.installed():
        now = denoiser.generate(2, seed=3, steps=2).latents
    expected = sqnr(np.asarray(now), np.asarray(full)).mean()
    assert found.sqnr_db["transformer_blocks.1.attn1.to_q"]["uaq-2"] == pytest.approx(expected, abs=1e-3)


def test_what_was_stopped_goes_on_and_other_options_are_added(
    made: tuple[Denoiser, Graph], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser, graph = made
    whole = table(step(tmp_path, file=tmp_path / "whole.json").run(graph, context(denoiser)))
    monkeypatch.setattr("q2.passes.analysis.one_at_a_time._SECONDS", 0.0)

    def dying(items: object, label: str, total: int | None = None, note: object = None) -> object:
        for number, item in enumerate(items):  # type: ignore[arg-type, var-annotated]
            if label == "sensitivity" and number == 3:
                # as kill -9 leaves it: what the file has now, without what a block's end would write
                (tmp_path / "measured.json").rename(tmp_path / "killed.json")
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        step(tmp_path).run(graph, replace(context(denoiser), progress=dying))  # type: ignore[arg-type]
    killed = SensitivityTable.load(tmp_path / "killed.json")
    assert sum(map(len, killed.sqnr_db.values())) == 3
    said: list[Step] = []
    measuring = step(tmp_path, file=tmp_path / "killed.json")
    found = table(measuring.run(graph, context(denoiser, said)))
    assert "5 measurements of" in said[0].summary
    assert "3 are there already" in said[0].summary
    assert found.sqnr_db == whole.sqnr_db
    said.clear()
    more = table(replace(measuring, options=("uaq-2", "uaq-1")).run(graph, context(denoiser, said)))
    assert "4 measurements of" in said[0].summary
    assert [list(row) for row in more.sqnr_db.values()] == [["uaq-2", "uaq-1"]] * 4
    said.clear()
    assert table(measuring.run(graph, context(denoiser, said))).sqnr_db == whole.sqnr_db
    assert said == []


def test_the_report_has_the_file_and_a_table_for_other_programs(made: tuple[Denoiser, Graph], tmp_path: Path) -> None:
    denoiser, graph = made
    report = step(tmp_path).run(graph, context(denoiser))
    loaded = tmp_path / "again.json"
    loaded.write_bytes(report.files["sensitivity.json"])
    found = SensitivityTable.load(loaded)
    assert found.sqnr_db == SensitivityTable.load(tmp_path / "measured.json").sqnr_db
    assert json.loads(loaded.read_text())["settings"]["images"] == 2
    rows = list(csv.DictReader(io.StringIO(report.files["sensitivity.csv"].decode())))
    assert len(rows) == 8
    assert float(rows[0]["noise_to_signal"]) == pytest.approx(10 ** (-float(rows[0]["sqnr_db"]) / 10))
    layers, options = report.tables
    spreads = [float(row[1]) for row in layers.rows]
    assert spreads == sorted(spreads, reverse=True)
    assert len(options.rows) == 8


def test_what_is_not_finite_is_kept_as_such_and_comes_last() -> None:
    found = SensitivityTable("toy", "", "forward", sqnr_db={"q": {"uaq-4": float("nan")}, "k": {"uaq-4": 20.0}})
    assert '"uaq-4": null' in found.to_json()
    assert [choice for choice, _ in found.ranked()] == ["k", "q"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"layers": "transformer_blocks.9*"}, "no layer matches 'transformer_blocks.9*'"),
        ({"steps": 0}, "steps: expected at least 1, not 0"),
        ({"options": ()}, "options: say which, or make a bank first, whose options are taken: q2 bank"),
        ({"options": ("uaq-9",)}, "uaq-9"),
        ({"base": Path("none.toml")}, "none.toml: cannot be read"),
    ],
)
def test_mistakes_are_found_before_anything_is_measured(
    made: tuple[Denoiser, Graph], tmp_path: Path, options: dict[str, object], line: str
) -> None:
    denoiser, graph = made
    manager = PassManager([("sensitivity", step(tmp_path, **options))], context(denoiser))
    with pytest.raises(ConfigError, match="passes.sensitivity: ") as error:
        manager.check(graph)
    assert line in str(error.value)


def test_a_file_that_was_measured_otherwise_is_refused(made: tuple[Denoiser, Graph], tmp_path: Path) -> None:
    denoiser, graph = made
    step(tmp_path).run(graph, context(denoiser))
    manager = PassManager([("sensitivity", step(tmp_path, images=3))], context(denoiser))
    with pytest.raises(PassError, match=r"measured.json: measured otherwise: images is 2, not 3; name another file"):
        manager.run(graph)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(SensitivityError, match=r"bad.json: no measured sensitivities: expected q2 = 'sensitivity'"):
        SensitivityTable.load(tmp_path / "bad.json")
