"""A search's page says what was chosen, beside uniform recipes, and which layers matter."""

from pathlib import Path

import pytest

from q2.errors import Q2Error
from q2.report.folder import RunFolder
from q2.report.parts import Chart, Table
from q2.report.search import SearchPage
from tests.report.runs import LAYERS, search_folder


@pytest.fixture
def page(tmp_path: Path) -> SearchPage:
    return SearchPage(RunFolder(search_folder(tmp_path / "run")))


def test_the_verdict_is_the_one_that_the_search_gave(page: SearchPage) -> None:
    assert page.verdict == "Chosen: front-6.toml, target 15; the best baseline, uaq-3 everywhere, has 8."
    figures = {name: value for value, name in page.page().figures}
    assert figures["bits a weight, chosen"] == "3.767"
    assert figures["latent-SQNR dB, chosen"] == "15 ± 0.5"
    assert figures["complete trials, 1 failed"] == "10"


def test_baselines_and_full_precision_are_listed_beside_the_chosen_recipe(page: SearchPage) -> None:
    table = page.page().first[0]
    assert isinstance(table, Table)
    assert list(table.headers) == ["recipe", "allowed", "target", "avg_bits", "latent-SQNR dB"]
    assert [list(row) for row in table.rows] == [
        ["chosen", "yes", "15", "3.767", "15 ± 0.5"],
        ["uaq-4 everywhere", "no", "15.5", "4.100", "15.5 ± 0.5"],
        ["uaq-3 everywhere", "yes", "8", "3.100", "8 ± 0.5"],
        ["uaq-2 everywhere", "", "no memory", "", ""],
        ["full precision", "", "", "16.000", "100"],
    ]
    assert table.marked == {0}


def test_a_search_that_has_not_ended_shows_its_trials(tmp_path: Path) -> None:
    folder = search_folder(tmp_path / "run")
    for name in ("report.json", "recipe.toml"):
        (folder / name).unlink()
    page = SearchPage(RunFolder(folder)).page()
    assert page.verdict == "The search has not ended: 10 complete trials so far, no recipe was chosen."
    assert [type(part) for part in page.first] == [Chart]
    assert len(page.sections[-1].parts[0].rows) == 13  # type: ignore[union-attr]


def test_the_front_holds_all_trials_of_the_searchs_fidelity_once(page: SearchPage) -> None:
    chart = page.page().first[1]
    assert isinstance(chart, Chart)
    points = chart.spec["data"]["values"]
    assert len(points) == 10
    assert [point["what"] for point in points if point["kind"] == "chosen"] == ["trial 6"]
    assert sorted(point["what"] for point in points if point["kind"] == "baseline") == [
        "uaq-3 everywhere",
        "uaq-4 everywhere",
    ]
    assert [point["what"] for point in points if not point["front"]] == ["uaq-4 everywhere"]


def test_layers_measured_alone_are_ranked_by_the_noise_they_add(page: SearchPage) -> None:
    summary = page.page()
    figures = {name: value for value, name in summary.figures}
    assert figures["most sensitive layers, by measurement"] == f"{LAYERS[4]}, {LAYERS[0]}"
    charts = next(section for section in summary.sections if "Sensitivity" in section.title).parts
    assert isinstance(charts[0], Chart)
    assert [bar["value"] for bar in charts[0].spec["data"]["values"]] == pytest.approx([0.1, 0.01])


def test_failed_trials_are_in_the_table_with_their_reason(page: SearchPage) -> None:
    table = page.page().sections[-1].parts[0]
    assert isinstance(table, Table)
    assert [row[1] for row in table.rows if row[0] == 12] == ["out of <memory>"]
    assert len(table.rows) == 13


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "report.json",
            '{"front": [{"file": "recipe.toml", "metrics": {"avg_bits": "x"}}]}',
            "report.json: front: cannot be read",
        ),
        ("report.json", "{", "report.json: cannot be read"),
        ("report.json", "[]", "report.json: expected a table, not list"),
        ("effective.toml", "a = ", "effective.toml: cannot be read"),
        ("effective.toml", '[search]\ntarget = "latent-SQNX"', "latent-SQNX"),
        ("recipe.toml", "", "recipe.toml"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, name: str, text: str, said: str) -> None:
    folder = search_folder(tmp_path / "run")
    (folder / name).write_text(text)
    with pytest.raises(Q2Error, match=said) as caught:
        SearchPage(RunFolder(folder)).page()
    assert "\n" not in str(caught.value)
