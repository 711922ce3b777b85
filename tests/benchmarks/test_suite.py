"""The benchmark suite: what counts as worse, its stored file and its page, and one measure."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import run
from benchmarks.suite.measure import Measure, Result, Work, measured
from benchmarks.suite.measures import MEASURES
from benchmarks.suite.results import LONGER, STORED, Results, page, said, worse


@contextmanager
def ticking() -> Iterator[tuple[Work, Work]]:
    """Two works that take 3 and 2 seconds of a made-up clock, longer every time."""

    def work(seconds: float) -> None:
        TIME[0] += seconds + len(CALLS) / 10
        CALLS.append(seconds)

    yield lambda: work(3), lambda: work(2)


TIME, CALLS = [0.0], list[float]()
MADE_UP = Measure(
    "made-up", "a", "b", ticking, rounds=3, least=0.0, clock=lambda: TIME[0], weights=6_200_000, most=12.0
)


@pytest.fixture
def result() -> Result:
    TIME[0] = 0.0
    CALLS.clear()
    return measured(MADE_UP)


def test_rounds_take_turns_after_a_first_call_of_both(result: Result) -> None:
    assert CALLS == [3, 2] * 4
    assert result.own == pytest.approx(3.2)
    assert result.other == pytest.approx(2.3)
    assert result.ratio == pytest.approx(3.2 / 2.3)
    assert result.high == pytest.approx(3.2 / 2.3)
    assert result.median == pytest.approx(3.4 / 2.5)
    assert result.low == pytest.approx(3.6 / 2.7)
    assert said(result) == "1.39 × the time, 2 M weights/s"


def test_twice_as_bad_is_worse_and_less_is_not(result: Result) -> None:
    stored = {"made-up": result, "other": result}
    assert worse({"made-up": replace(result, ratio=1.99 * result.ratio)}, stored, 2.0) == []
    assert worse({"new": replace(result, ratio=99.0)}, stored, 2.0) == []
    (line,) = worse({"made-up": replace(result, ratio=2.5 * result.ratio)}, stored, 2.0)
    assert line == "made-up: a takes 3.48 times as long as b, stored are 1.39: 2.5 times worse"


def test_the_command_fails_where_a_measure_stays_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], result: Result
) -> None:
    monkeypatch.setattr(run, "MEASURES", (MADE_UP,))
    monkeypatch.setattr("sys.argv", ["run", "--check", "--out", str(tmp_path / "out.json")])
    for ratio, code in ((result.ratio, 0), (result.ratio / 3, 1)):
        stored = Results({}, {"made-up": replace(result, ratio=ratio)})
        monkeypatch.setattr(Results, "load", lambda stored=stored: stored)
        CALLS.clear()
        with pytest.raises(SystemExit) as end:
            run.main()
        assert end.value.code == code
        assert len(CALLS) == (8 if code == 0 else 16)  # what is worse is measured once more
    assert "made-up: a takes" in capsys.readouterr().out
    assert torch.is_grad_enabled()  # as before
    assert logging.root.manager.disable == 0


def test_results_are_read_as_they_were_written(tmp_path: Path, result: Result) -> None:
    results = Results.here({"made-up": result})
    results.save(tmp_path / "a.json")
    read = Results.load(tmp_path / "a.json")
    assert read.measures["made-up"].plain() == result.plain()
    assert read.made == results.made
    assert "| `made-up` | a | b | 1.39 × the time, 2 M weights/s |" in page(read)
    assert "| at most 12 ×; kept |" in page(read)


def test_the_page_is_that_of_the_stored_results_and_these_are_of_measures_that_there_are() -> None:
    stored = Results.load()
    assert run.PAGE.read_text("utf-8") == page(stored)
    assert set(stored.measures) <= {each.name for each in MEASURES}
    assert {each.name for each in MEASURES if each.quick} <= set(stored.measures)
    assert STORED.stat().st_size < 20_000


def test_a_real_measure_is_a_ratio_of_seconds() -> None:
    (attention,) = (each for each in MEASURES if each.name == "attention")
    found = measured(replace(attention, least=0.0), rounds=1)
    assert found.own > 0
    assert found.other > 0
    assert found.ratio == found.median == found.own / found.other


def test_the_page_names_every_benchmark() -> None:
    folder = Path(run.__file__).parent
    modules = {file.stem: file for file in folder.glob("*.py")}
    modules |= {file.parent.name: file for file in folder.glob("*/__main__.py")}
    there = {name for name, file in modules.items() if '\nif __name__ == "__main__":' in file.read_text("utf-8")}
    assert {command.split()[0] for command in LONGER} == there - {"run"}
