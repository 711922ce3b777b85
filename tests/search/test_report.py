"""What a search found: the best allowed trial, the front, its table and picture."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from q2.search.evaluation.costs import Costs
from q2.search.metrics.base import Metric
from q2.search.metrics.costs import AvgBits
from q2.search.metrics.judged import JudgeFid
from q2.search.metrics.paired import LatentSqnr
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.pictures import front_picture
from q2.search.report import found, quality_of
from q2.search.space import Space
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

KINDS: dict[str, type[Metric]] = {"latent-SQNR": LatentSqnr, "avg_bits": AvgBits, "judge-fid": JudgeFid}
OPTIONS = ("uaq-2", "uaq-3", "uaq-4")


def problem(target: str = "latent-SQNR - 2*avg_bits", bound: str = "") -> Problem:
    space = Space.of({"a": 1, "b": 1}, OPTIONS)
    costs = Costs(space, {"avg_bits": np.array([[1.0, 1.5, 2.0]] * 2)}, {"avg_bits": 0.0})
    bounds = (Constraint.parse(bound, ["avg_bits"]),) if bound else ()
    graph: nx.DiGraph[str] = nx.DiGraph()
    return Problem(space, costs, Target.parse(target, list(KINDS)), graph, 9, constraints=bounds)  # type: ignore[arg-type]


def trials() -> list[Trial]:
    rows = [("uaq-2", "uaq-2", 5.0, 2.0), ("uaq-3", "uaq-2", 9.0, 2.5), ("uaq-3", "uaq-3", 8.0, 3.0)]
    rows += [("uaq-4", "uaq-4", 12.0, 4.0)]
    made = [
        Trial(
            {"a": a, "b": b},
            {"latent-SQNR": quality, "avg_bits": bits, "judge-fid": -quality},
            {"latent-SQNR": (quality - 0.5, quality + 0.25)},
            number=number,
            strategy="random",
        )
        for number, (a, b, quality, bits) in enumerate(rows)
    ]
    return [*made, Trial({"a": "uaq-2", "b": "uaq-4"}, state="failed", error="out of memory", number=4)]


def test_the_front_leaves_out_what_another_beats() -> None:
    result = found(problem(), trials(), KINDS)
    assert [trial.number for trial in result.front] == [0, 1, 3]
    assert result.best is not None
    assert (result.best.number, max(result.values.values())) == (1, 4.0)  # 9 - 5 ties with 12 - 8: the first
    assert [trial.number for trial in result.failed] == [4]
    table = result.table()
    assert table.headers == ("recipe", "avg_bits", "target", "latent-SQNR dB")
    assert table.rows[1] == ("front-1.toml ← chosen", "2.500", "4", "9 (8.5 to 9.25)")


def test_the_best_keeps_to_the_constraints() -> None:
    assert found(problem(bound="avg_bits <= 2.4"), trials(), KINDS).best == trials()[0]
    assert found(problem(bound="avg_bits <= 1"), trials(), KINDS).best is None


def test_lower_is_better_where_the_metric_says_so() -> None:
    result = found(problem("0 - judge-fid - avg_bits"), trials(), KINDS)
    assert result.quality is JudgeFid
    assert [trial.number for trial in result.front] == [0, 1, 3]
    assert quality_of(problem("-1*avg_bits"), KINDS) is AvgBits


def test_trials_of_other_fidelities_only_helped() -> None:
    cheap = Trial({"a": "uaq-4", "b": "uaq-2"}, {"latent-SQNR": 99.0, "avg_bits": 1.0}, fidelity="few-step")
    assert found(problem(), [*trials(), cheap], KINDS).best == trials()[1]


def test_a_search_without_a_complete_trial_finds_nothing() -> None:
    result = found(problem(), trials()[-1:], KINDS)
    assert (result.best, result.front, result.values, result.table().rows) == (None, [], {}, ())


def test_failed_trials_are_counted_by_their_reasons() -> None:
    errors = ["no memory", "NaN", "NaN", *(f"reason {i}" for i in range(5))]
    failed = [Trial({"a": f"uaq-{i + 1}"}, state="failed", error=error, number=i) for i, error in enumerate(errors)]
    table = found(problem(), [*trials()[:4], *failed], KINDS).failures()
    assert table.rows[0] == (2, "trial 1", "NaN")
    assert table.rows[1] == (1, "trial 0", "no memory")
    assert table.rows[-1] == (2, "", "other reasons")
    assert sum(int(row[0]) for row in table.rows) == 8
    assert found(problem(), trials()[:4], KINDS).failures().rows == ()


def test_why_there_is_no_recipe_is_said_in_words() -> None:
    failed = [Trial({"a": f"uaq-{n}"}, state="failed", error="x" if n else "y", number=n) for n in range(3)]
    line = "no recipe was chosen: all 3 trials failed, 2 of them for the same reason: x"
    assert found(problem(), failed, KINDS).why_none() == line
    assert found(problem(bound="avg_bits <= 1"), trials(), KINDS).why_none().startswith("no trial satisfies the")
    assert found(problem(), trials(), KINDS).why_none() == ""


@pytest.mark.parametrize("ending", [".png", ".svg"])
def test_the_picture_is_drawn(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"front{ending}"
    front_picture(found(problem("0 - judge-fid"), trials(), KINDS), path)
    start = path.read_bytes()[:200]
    assert start.startswith(b"\x89PNG") if ending == ".png" else b"<?xml" in start
    front_picture(found(problem(), trials()[-1:], KINDS), path)
