"""A report is one file: whole, small, without a network, and safe with any names."""

import re
from pathlib import Path

import pytest

from q2.errors import Q2Error
from q2.quant.sensitivity import SensitivityTable
from q2.report.folder import RunFolder
from q2.report.page import write_report
from q2.report.parts import Chart, Table
from q2.report.transform import transform_page
from tests.report.runs import LAYERS, search_folder, transform_folder

EVIL = "</script><img src=x onerror=alert(1)>"


def test_runs_of_several_kinds_are_in_one_file_with_an_index(tmp_path: Path) -> None:
    runs = [search_folder(tmp_path / "search"), transform_folder(tmp_path / "transform")]
    size = write_report(runs, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert len(text.encode()) == size < 5e6
    assert text.count("<main") == 2
    assert 'href="#run-2"' in text
    assert "4.00×" in text
    assert "98.0% at full precision and 96.0% quantized: a loss of 2.0 points" in text


def test_measured_sensitivities_are_charts_and_a_table(tmp_path: Path) -> None:
    folder = transform_folder(tmp_path / "transform")
    rows = {LAYERS[0]: {"uaq-3": 20.0}, LAYERS[1]: {"uaq-3": 10.0, "none": float("nan")}}
    table = SensitivityTable("net", "00ff", "forward", base={LAYERS[0]: "uaq-4"}, base_db=20.0, sqnr_db=rows)
    table.save(folder / "sensitivity.json")
    sections = {section.title: section for section in transform_page(RunFolder(folder)).sections}
    (cells,) = sections["Layers alone"].parts
    assert isinstance(cells, Table)
    assert [row[:2] for row in cells.rows] == [[LAYERS[0], "uaq-3"], [LAYERS[1], "uaq-3"], [LAYERS[1], "none"]]
    assert cells.rows[1][2:] == [10.0, pytest.approx(0.1), pytest.approx(-0.09)]
    chart = sections["Sensitivity, by measurement"].parts[0]
    assert isinstance(chart, Chart)
    assert [bar["layer"] for bar in chart.spec["data"]["values"]] == [LAYERS[1], LAYERS[0]]
    write_report([folder], tmp_path / "page.html")
    assert "Layers alone" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_nothing_is_fetched(tmp_path: Path) -> None:
    write_report([search_folder(tmp_path / "run")], tmp_path / "report.html")
    page = re.sub(r"<script>.*?</script>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"(?!data:)[^\"]*", page) == []


def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    folder = search_folder(tmp_path / "run", layers={LAYERS[0]: EVIL})
    write_report([folder], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert EVIL not in text
    assert "&lt;/script&gt;&lt;img src=x" in text or "\\u003c/script\\u003e\\u003cimg" in text
    assert "out of &lt;memory&gt;" in text


def test_thousands_of_trials_stay_within_the_size(tmp_path: Path) -> None:
    size = write_report([search_folder(tmp_path / "run", copies=3000)], tmp_path / "report.html")
    assert size < 5e6
    assert "The best 2000 of 3013 trials." in (tmp_path / "report.html").read_text()


def test_a_folder_of_no_run_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    for folder, said in ((tmp_path / "gone", "no such folder"), (tmp_path, "not the folder of a run")):
        with pytest.raises(Q2Error, match=said):
            write_report([folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
