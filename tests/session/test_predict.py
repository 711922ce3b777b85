"""``q2 predictor`` and ``q2 plot`` as a user meets them: files, tables, and bad input in one line."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from q2.denoisers.pairs import LIMIT
from q2.graph.flow.draw import draw
from q2.quant.sensitivity import SensitivityTable
from q2.search.predictor.bridge import Bridge
from q2.search.predictor.label import Labels, label
from q2.search.predictor.provenance import BY_SEARCH, Provenance
from q2.search.predictor.space import NodeSpace
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from tests.search.predictor.searches import costs
from tests.search.predictor.spaces import graph, space, trained
from tests.test_cli import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor's folder, without labels."""
    made = tmp_path_factory.mktemp("predictor")
    trained("dit").save(made)
    space("dit").save(made / "space.npz")
    return made


def store(path: Path, count: int = 20, denoiser: str = "digits-dit", constant: bool = False) -> TrialStore:
    made = TrialStore.open(path, Fingerprint(denoiser, "0000", "0.1.0"))
    rng = np.random.default_rng(0)
    metrics = ({"SQNR": LIMIT if constant else float(rng.normal()), "avg_bits": 4.0} for _ in range(count))
    made.extend(Trial({"proj": "uaq-4", "i": f"uaq-{i % 8 + 1}"}, m, seed=i, number=i) for i, m in enumerate(metrics))
    return made


def test_labels_are_made_without_the_denoiser_and_drawn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels" / "labels.npz"
    assert run(monkeypatch, "predictor", "label", "--predictor", str(folder), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert "most sensitive" in said
    assert "most tolerant" in said
    expected = label(space("dit"), trained("dit"))
    found = Labels.load(out)
    np.testing.assert_allclose(found.nodes, expected.nodes)
    made = found.made
    assert (made.by, made.scores, made.level, made.loss) == ("q2 predictor label", "networks", "unit", "hybrid")
    assert (made.predictor, made.folds, made.target) == (str(folder), 2, "y")
    for args, name in (
        (("box", "--by", "layer"), "box-layer"),
        (("box", "--statistic", "std"), "box-unit-std"),
        (("bar", "--from", "units"), "bar-units"),
    ):
        assert run(monkeypatch, "plot", *args, "--labels", str(out.parent), "--out", str(tmp_path)) == 0
        assert all((tmp_path / f"{name}.{kind}").stat().st_size for kind in ("png", "svg"))
        with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.reader(file))) > 2


def test_labels_are_judged_by_what_was_measured_and_those_of_a_search_stay(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "run" / "predictor"
    shutil.copytree(folder, made)
    expected = label(space("dit"), trained("dit"))
    replace(expected, made=Provenance(by=BY_SEARCH)).save(made / "labels.npz")
    before = (made / "labels.npz").read_bytes()
    args = ("predictor", "label", "--predictor", str(made), "--out", str(made / "networks.npz"))
    assert run(monkeypatch, *args) == 0
    assert "Spearman" not in capsys.readouterr().out
    assert (made / "labels.npz").read_bytes() == before
    np.testing.assert_allclose(Labels.load(made / "networks.npz").nodes, expected.nodes)
    total = expected.nodes.sum(2)
    spreads = np.nanmax(total, axis=1) - np.nanmin(total, axis=1)
    for signs, warns in ((1, False), (-1, True)):
        ranks = np.argsort(np.argsort(signs * spreads))
        rows = {choice: {"uaq-4": 60.0 - float(rank)} for choice, rank in zip(expected.choices, ranks, strict=True)}
        table = SensitivityTable("dit", "", "forward", sqnr_db=rows)
        table = replace(table, base=dict.fromkeys(rows, "none"))
        table.save(tmp_path / "run" / "sensitivity.json")
        for given in ((), ("--sensitivity", str(tmp_path / "run"))):
            assert run(monkeypatch, *args, *given) == 0
            said = capsys.readouterr().out
            assert "most sensitive tenth found" in said
            assert ("warning: these labels disagree" in said) == warns
    (tmp_path / "run" / "sensitivity.json").unlink()
    alone = TrialStore.open(tmp_path / "run" / "trials", Fingerprint("dit", "0000", "0.1.0"))
    for choice in expected.choices[:9]:
        recipe = dict.fromkeys(expected.choices, "none") | {choice: "uaq-4"}
        alone.add(Trial(recipe, {"SQNR": 20.0 + len(alone)}, fidelity="forward"))
    assert run(monkeypatch, *args) == 0
    assert re.search(r"forward +9 ", capsys.readouterr().out)
    assert run(monkeypatch, *args, "--sensitivity", str(made / "labels.npz")) == 2
    assert "labels.npz: no measured sensitivities: " in capsys.readouterr().err


def test_measured_sensitivities_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = list(graph("dit").choices)
    rows = {layer: {"uaq-4": 30.0 + i, "uaq-3": 20.0 + i} for i, layer in enumerate(layers)}
    rows[layers[0]]["uaq-3"] = float("nan")
    SensitivityTable("dit", "", "forward", sqnr_db=rows).save(tmp_path / "sensitivity.json")
    assert run(monkeypatch, "plot", "sensitivity", "--file", str(tmp_path), "--out", str(tmp_path)) == 0
    assert all((tmp_path / f"sensitivity.{kind}").stat().st_size for kind in ("png", "svg"))
    with (tmp_path / "sensitivity.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 2 * len(layers) - 1
    assert float(found[-1]["noise_to_signal"]) == pytest.approx(10 ** (-float(found[-1]["sqnr_db"]) / 10))


def test_graphs_of_any_kind_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    graphs = []
    for _ in range(24):
        widths = rng.integers(1, 5, 4)
        nodes = [{"op": "conv" if w % 2 else "pool", "width": int(w)} for w in widths]
        graphs.append({"nodes": nodes, "edges": [[0, 1], [1, 2], [2, 3]], "metrics": {"accuracy": float(widths.sum())}})
    file = tmp_path / "graphs.json"
    file.write_text(json.dumps({"graphs": graphs}), encoding="utf-8")
    args = ("--folds", "2", "--epochs", "2", "--embedding", "fe-mlp", "--loss", "srcc")
    assert run(monkeypatch, "predictor", "train", "--graphs", str(file), *args) == 0
    assert "mean ± sd" in capsys.readouterr().out
    made = tmp_path / "graphs-predictor"
    assert {path.name for path in made.iterdir()} == {"predictor.safetensors", "predictor.json", "graphs.npz"}
    assert run(monkeypatch, "plot", "importance", "--predictor", str(made), "--out", str(tmp_path)) == 0
    text = (tmp_path / "importance.csv").read_text(encoding="utf-8")
    assert {line.split(",")[0] for line in text.splitlines()} == {"feature", "op", "width"}
    capsys.readouterr()
    assert run(monkeypatch, "predictor", "label", "--predictor", str(made)) == 2
    line = f"q2: {made}: no node of its graphs names a 'unit': there are no modules to label\n"
    assert capsys.readouterr().err == line


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    store(Path("few"), 4)
    store(Path("flat"), constant=True)
    store(Path("other"), denoiser="sdxl")
    store(Path("empty"), 0)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((), "--trials or --graphs: expected one of them: a search's folder, or a JSON file of graphs"),
        (("--trials", "none"), "none: no trial store, expected a folder with store.json"),
        (("--trials", "few"), "4 trials for 5 folds, expected at least 15"),
        (("--trials", "empty"), "empty: no complete trial in 0"),
        (("--trials", "flat"), "target 'SQNR' is 100 in all 20 trials: there is nothing to rank"),
        (("--trials", "other"), "other: trials of sdxl (0000), not of digits-dit (5b5ebccbe65b5abf)"),
        (
            ("--trials", "other", "--target", "SNQR"),
            "target 'SNQR': column 1: unknown metric 'SNQR'; did you mean 'SQNR'?",
        ),
        (
            ("--trials", "other", "--target", "PSNR"),
            "target 'PSNR': trial 0: metric 'PSNR' is missing; did you mean 'SQNR'?",
        ),
        (("--graphs", "none.json"), "none.json: no file of graphs: [Errno 2] No such file or directory: 'none.json'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], line: str
) -> None:
    before = sorted(here.rglob("*"))
    given = ("--target", "SQNR") if "--target" not in args and "--trials" in args else ()
    assert run(monkeypatch, "predictor", "train", *args, *given) == 2
    assert capsys.readouterr().err == f"q2: {line}\n"
    assert sorted(here.rglob("*")) == before


def test_the_bridge_says_what_the_search_says() -> None:
    found = costs({"attn1": ("kmeans-c-4", "kmeans-c-3")})
    bridge = Bridge.of(graph("dit"), found.space, found)
    recipes = [found.space.draw(0, i) for i in range(5)]
    chosen = bridge.encode(recipes)
    assert [bridge.recipe(row) for row in chosen] == recipes
    indices = np.stack([found.space.encode(recipe) for recipe in recipes])
    np.testing.assert_allclose(bridge.space.avg_bits(chosen), found.value("avg_bits", indices))
    for i, name in enumerate(bridge.space.choices):
        own = found.space.choices[found.space.layers[name]].options
        assert {bridge.space.options[j] for j in np.flatnonzero(bridge.space.allowed[i])} == set(own)


def test_a_space_is_written_and_read_again(tmp_path: Path) -> None:
    made = space("sdxl")
    made.save(tmp_path / "space.npz")
    again = NodeSpace.load(tmp_path / "space.npz")
    for name, value in vars(made).items():
        if name != "topology":
            assert np.all(getattr(again, name) == value)
    assert again.topology.units == made.topology.units
    assert np.array_equal(again.topology.edges, made.topology.edges)


def test_a_graph_is_coloured_by_scores() -> None:
    of = graph("dit")
    names = [name for name, data in of.flow().nodes(data=True) if data["kind"] == "weight"]
    scores = {name: float(i) for i, name in enumerate(names)}
    text = draw(of, of.units(), scores=scores).decode()
    assert "#ffffff" in text
    assert f"{len(names) - 1}</text>" in text
