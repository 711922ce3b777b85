"""``q2 predictor build``, ``show`` and ``reduce`` as a user meets them; labels of a search are never replaced."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from q2.config import RunFile
from q2.passes import PassContext
from q2.quant import Recipe
from q2.search.evaluation.costs import Costs
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.provenance import BY_SEARCH, Provenance
from q2.search.predictor.scores import ScoredPart, additive_labels
from q2.search.reduced import ReducedSpace
from q2.search.subject import Subject
from q2.session.labels import build_recipes, read_scores, reduce_space
from q2.session.session import Session
from tests.search.predictor.labelled import LAYERS, MADE, OPTIONS, labels, space
from tests.test_cli import run


def saved(folder: Path, seed: int = 0, made: Provenance = MADE) -> Path:
    space(made).save(folder / "space.npz")
    labels(seed, made=made).save(folder / "labels.npz")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "one")
    saved(tmp_path / "two", 1)
    saved(tmp_path / "sdxl", made=replace(MADE, subject=Subject("sdxl", "ffff")))
    saved(tmp_path / "old", made=Provenance())
    return tmp_path


def test_a_recipe_is_built_within_its_bits(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--labels", "one", "--avg-bits", "2.5", "--constraint", "bops <= 700", "--json")
    assert run(monkeypatch, "predictor", "build", *args) == 0
    (found,) = json.loads(capsys.readouterr().out)["recipes"]
    recipe = Recipe.load(here / "one" / "recipe.toml")
    assert (recipe.denoiser, recipe.fingerprint) == ("toy", "0a1b")
    assert list(recipe.layers) == list(LAYERS)
    assert recipe.avg_bits == found["avg_bits"] <= 2.5
    assert found["bops"] <= 700
    assert run(monkeypatch, "predictor", "build", "--labels", "one") == 0
    assert (here / "one" / "recipe-2.toml").exists()  # the first is kept


def test_a_front_is_several_files_from_summed_labels(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--labels", "one", "--labels", "two/labels.npz", "--level", "node")
    assert run(monkeypatch, "predictor", "build", *args, "--front", "4", "--out", "f.toml", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert [row["file"] for row in rows] == [f"f-{i}.toml" for i in range(len(rows))]
    assert [Recipe.load(row["file"]).avg_bits for row in rows] == sorted(row["avg_bits"] for row in rows)
    assert len(rows) > 1
    assert run(monkeypatch, "predictor", "build", *args, "--budgets", "2.2", "--out", "f.toml") == 2
    assert capsys.readouterr().err == (
        "q2: --out f.toml: f-1.toml of another front is there; remove it, or name another file\n"
    )


def test_units_are_listed_as_csv_and_json(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "predictor", "show", "--labels", "one", "--top", "2", "--format", "csv") == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["name"], row["rank"]) for row in rows] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    best = labels().units[0].best
    assert rows[0]["options"].split() == [OPTIONS[i] for i in best.values()]
    args = ("--level", "node", "--sort", "score", "--limit", "1", "--out", "best.json")
    assert run(monkeypatch, "predictor", "show", "--labels", "one", *args) == 0
    (row,) = json.loads((here / "best.json").read_text(encoding="utf-8"))
    assert row["score"] == pytest.approx(labels().nodes.sum(2).max())


def test_the_best_are_kept_as_a_space(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "predictor", "reduce", "--labels", "one", "--top", "2", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["recipes"], said["of"]) == (4, 81)
    found = ReducedSpace.load(here / "one" / "top-2.toml")
    assert found.subject == MADE.subject
    assert [len(unit.variants) for unit in found.units] == [2, 2]
    assert found.made.startswith("the best 2 variants of every unit by scores by q2 search")
    args = ("--labels", "one", "--labels", "two", "--union", "--level", "node", "--top", "1", "--out", "u.toml")
    assert run(monkeypatch, "predictor", "reduce", *args) == 0
    both = ReducedSpace.load(here / "u.toml").layers
    for i, name in enumerate(LAYERS):
        best = [OPTIONS[int(labels(seed).nodes[i].sum(1).argmax())] for seed in (0, 1)]
        assert both[name] == tuple(dict.fromkeys(best))


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (("build", "--labels", "none"), "none: cannot be read: No such file or directory"),
        (
            ("build", "--labels", "one", "--labels", "sdxl"),
            "labels: file 2 is of sdxl (ffff), the first of toy (0a1b)",
        ),
        (
            ("build", "--labels", "old"),
            "the labels' space.npz does not say what denoiser it is of; train or search again",
        ),
        (
            ("build", "--labels", "one", "--avg-bits", "1.5"),
            "constraint 'avg_bits <= 1.5': no recipe satisfies it, the least is 2",
        ),
        (
            ("build", "--labels", "one", "--constraint", "avgbits <= 3"),
            "constraint 'avgbits <= 3': no metric 'avgbits'; did you mean 'avg_bits'?",
        ),
        (
            ("build", "--labels", "one", "--budgets", "3,x"),
            "--budgets 3,x: expected numbers with commas, such as 3,3.5,4",
        ),
        (
            ("build", "--labels", "one", "--budgets", "3", "--front", "2"),
            "--budgets and --front: give only one of them",
        ),
        (
            ("build", "--labels", "one", "--front", "2", "--metric", "size"),
            "--metric size: is no sum over layers; these are: avg_bits, bops",
        ),
        (
            ("show", "--labels", "one", "--out", "x.txt"),
            "--out x.txt: expected a name that ends in .csv or .json, or --format",
        ),
        (
            ("reduce", "--labels", "old", "--top", "1"),
            "the labels' space.npz does not say what denoiser it is of; train or search again",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], line: str
) -> None:
    before = sorted(here.rglob("*"))
    assert run(monkeypatch, "predictor", *args) == 2
    assert capsys.readouterr().err == f"q2: {line}\n"
    assert sorted(here.rglob("*")) == before


def test_labels_of_a_search_are_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "predictor"
    labels().save(folder / "labels.npz")
    before = (folder / "labels.npz").read_bytes()
    assert run(monkeypatch, "predictor", "label", "--predictor", str(folder)) == 2
    line = f"{folder}/labels.npz: labels by q2 search are not replaced; "
    assert capsys.readouterr().err == f"q2: {line}--out names another file, such as {folder}/networks.npz\n"
    (tmp_path / "g.json").write_text('{"graphs": []}', encoding="utf-8")
    assert run(monkeypatch, "predictor", "train", "--trials", str(tmp_path), "--out", str(folder)) == 2
    assert capsys.readouterr().err == f"q2: {line}{folder}: take another folder\n"
    assert (folder / "labels.npz").read_bytes() == before


def test_what_is_built_and_reduced_fits_the_denoiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = Session(RunFile.load("digits-dit.toml", ["denoiser.weights=meta"]))
    found = session.space
    costs = Costs.of_graph(session.outline, found, PassContext(session.plugins, session.shapes), None)
    subject = Subject(session.shapes.label, "0a1b")
    made = Provenance(subject, by=BY_SEARCH, scores="ridge", level="node", folds=1)
    where = Bridge.of(session.outline, found, costs, made=made).space
    rng = np.random.default_rng(0)
    parts = [
        ScoredPart(np.array([i]), np.arange(len(where.options))[:, None], rng.normal(size=(len(where.options), 1)))
        for i in range(len(where.choices))
    ]
    where.save(tmp_path / "space.npz")
    replace(additive_labels(where, parts), made=made).save(tmp_path / "labels.npz")
    scores = read_scores([tmp_path], "unit")
    built = build_recipes(scores, tmp_path / "built.toml", ["avg_bits <= 3.2"])
    assert built.recipes[0].avg_bits == pytest.approx(
        costs.metrics({n: str(o) for n, o in built.recipes[0].layers.items()})["avg_bits"]
    )
    monkeypatch.chdir(tmp_path)
    reduce_space(scores, 2).save("top.toml")
    again = Session(RunFile.load("digits-dit.toml", ["denoiser.weights=meta", "search.space=top.toml"])).space
    assert again.size == 2 ** len(again.units)
    assert {choice for unit in again.units for choice in unit.choices} == set(range(len(again)))
    args = ("--set", "denoiser.weights=meta", "--recipe", "built.toml", "--out", "out")
    assert run(monkeypatch, "transform", *args) == 0
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    assert report["passes"]["size"]["avg_bits"] == pytest.approx(built.recipes[0].avg_bits)
    assert Recipe.load("out/recipe.toml").layers == built.recipes[0].layers
