"""The passes that show units: the table, and the picture that a run leaves in its folder."""

from pathlib import Path

import pytest

import q2
from q2.denoisers import load
from q2.errors import ConfigError, PassError
from q2.graph import Graph
from q2.passes import PassResult
from q2.passes.analysis.dag import Dag
from q2.passes.analysis.units import UNITS, Units
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig


@pytest.fixture(scope="module")
def tiny() -> Graph:
    denoiser = load("pixart-alpha", tiny=True, device="cpu")
    return q2.trace(denoiser.model, denoiser.example_inputs())


def test_the_table_groups_units_of_a_kind_and_counts_every_weight_once(tiny: Graph) -> None:
    report = q2.run_passes(tiny, [Units()])[0].report
    rows = {(row[0], row[2]): row for row in report.tables[0].rows}
    assert rows["ff", 2][1] == 2
    assert sum(float(row[4]) for row in rows.values()) * 1e6 == pytest.approx(
        sum(layer.weights for layer in tiny.weight_layers.values())
    )
    assert sum(float(row[5]) for row in rows.values()) * 1e9 == pytest.approx(
        sum(layer.macs for layer in tiny.weight_layers.values())
    )
    assert [unit.name for unit in tiny.facts.get(UNITS)] == list(report.data["units"])  # type: ignore[call-overload]


def test_rules_of_a_run_file_name_units(tiny: Graph) -> None:
    report = q2.run_passes(tiny, [Units(rules={r"blocks\.(\d)\.attn": r"attention \1"})])[0].report
    assert {"attention 0", "attention 1"} <= set(report.data["units"])  # type: ignore[call-overload]
    with pytest.raises(PassError, match="no layer matches 'atn'"):
        q2.run_passes(tiny, [Units(rules={"atn": "x"})])


def test_a_picture_is_a_file_of_the_report_with_the_bits_in_place(tiny: Graph) -> None:
    results: list[PassResult] = q2.run_passes(tiny, [Quantize(default=Rule(RuleConfig("uaq", 4))), Dag(), Dag("1")])
    whole, block = (result.report.files for result in results if result.title == "dag")
    assert b" bits</text>" in whole["dag-all.svg"]
    assert b"transformer_blocks.1.ff.net.2" in block["dag-1.svg"].replace(b"&#45;", b"-")
    with pytest.raises(ConfigError, match="no block 'x'"):
        q2.run_passes(tiny, [Dag("x")])


def test_a_run_writes_its_pictures_beside_its_report(tmp_path: Path) -> None:
    sets = ["denoiser.weights=meta", 'passes.dag.block="2"', "passes.dag.format=png"]
    outcome = q2.transform("digits-dit.toml", sets, tmp_path / "out")
    assert (tmp_path / "out" / "dag-2.png") in outcome.files
    assert (tmp_path / "out" / "dag-2.png").read_bytes().startswith(b"\x89PNG")
