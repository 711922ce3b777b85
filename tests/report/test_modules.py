"""Runs of modules that are no denoisers have pages too."""

from pathlib import Path

from PIL import Image

from q2.config import to_toml
from q2.files import write_json, write_text
from q2.report.folder import RunFolder
from q2.report.page import page_of, write_report
from q2.report.parts import Chart, Table
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

MODEL = {"name": "jsc-tiny", "fingerprint": "00ff"}


def searched(folder: Path) -> Path:
    trials = [
        Trial({"linear": f"integer {bits}"}, {"accuracy": 0.5 + bits / 100, "bits": float(bits)}, number=bits)
        for bits in (4, 6, 8)
    ]
    TrialStore.open(folder / "trials", Fingerprint("jsc-tiny", "00ff", "0.1.0")).extend(trials)
    metrics = {"accuracy": {"direction": "maximize"}, "bits": {"direction": "minimize"}}
    write_text(folder / "effective.toml", to_toml({"model": MODEL, "search": {"metrics": metrics}}))
    write_json(folder / "manifest.json", {"run": {"kind": "search"}})
    write_json(
        folder / "report.json",
        {"model": MODEL, "space": "3 settings", "target": "accuracy", "front": [{"recipe": {"linear": "integer 8"}}]},
    )
    return folder


def test_a_search_over_lists_shows_its_objectives_its_front_and_all_trials(tmp_path: Path) -> None:
    page = page_of(RunFolder(searched(tmp_path / "run")))
    assert (page.title, page.subtitle) == ("jsc-tiny", "search in 3 settings for accuracy")
    front, chart = page.first
    assert isinstance(front, Table)
    assert isinstance(chart, Chart)
    assert list(front.rows) == [[8, 0.58, 8.0, "linear integer 8"]]
    points = [(point["x"], point["y"], point["kind"]) for point in chart.spec["data"]["values"]]
    assert points == [(4.0, 0.54, "trial"), (6.0, 0.56, "trial"), (8.0, 0.58, "front")]
    table = page.sections[0].parts[0]
    assert isinstance(table, Table)
    assert len(table.rows) == 3


def test_a_transform_shows_the_test_data_before_and_after_and_the_passes_pictures(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    passes = {"model-size": {"seconds": 0.0, "summary": "349 bytes", "bytes": 349.0, "full_bytes": 698.0}}
    test = {"before": {"accuracy": 0.64}, "after": {"accuracy": 0.63}}
    write_json(folder / "report.json", {"model": MODEL, "passes": passes, "test": test})
    write_json(folder / "manifest.json", {"run": {"kind": "transform"}})
    Image.new("RGB", (8, 8)).save(folder / "weights-histogram.png")
    page = page_of(RunFolder(folder))
    assert ("2.00×", "smaller than at full precision") in page.figures
    assert [section.title for section in page.sections[:2]] == ["Test data", "weights-histogram"]
    table = page.sections[0].parts[0]
    assert isinstance(table, Table)
    assert list(table.rows) == [["before", 0.64], ["after", 0.63]]
    assert write_report([folder], tmp_path / "report.html") < 5e6
