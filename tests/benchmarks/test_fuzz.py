"""A short run of the fuzzer: readers take or refuse what is damaged; each fault that it found is a case here."""

import json
import random
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz import fuzz, table
from benchmarks.fuzzing.mutations import damaged
from q2.config import RunFile
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.errors import Q2Error
from q2.files import read_json, read_toml
from q2.passes.pipeline import parse_pipeline
from q2.quant import Recipe
from q2.search.predictor.dataset import GraphSet
from q2.search.predictor.label import Labels, UnitScores
from q2.search.trials.lines import checked
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

GRAPH = {"nodes": [{"op": "a", "width": 1.0}], "edges": [], "metrics": {"acc": 0.5}}
DEEP = 5000


def test_damaged_things_are_taken_or_refused_in_one_line(tmp_path: Path) -> None:
    found = fuzz(tmp_path, 400)
    assert {name: count.faults for name, count in found.items() if count.faults} == {}, table(found)
    assert sum(count.cases for count in found.values()) == 400
    assert sum(count.refused for count in found.values()) > 200  # the damage does damage
    assert sum(count.taken for count in found.values()) > 20


@pytest.mark.parametrize("text", ["a = " + "[" * DEEP, ".".join("a" * DEEP) + " = 1", "a = " + "9" * DEEP])
def test_toml_that_python_cannot_read_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(Q2Error, match=r"run\.toml: not valid TOML: [^\n]+$"):
        read_toml(tmp_path / "run.toml", Q2Error)


@pytest.mark.parametrize("text", ["[" * DEEP, '{"a":' * 200 + "1" + "}" * 200, "9" * DEEP, "\ufeff{}"])
def test_json_that_python_cannot_read_is_a_value_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"."):
        read_json(tmp_path / "a.json")


def test_what_lies_a_hundred_deep_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 100 + "]" * 100)
    assert read_json(tmp_path / "a.json")


def test_a_pipeline_and_a_setting_that_are_nested_or_long_are_refused() -> None:
    with pytest.raises(Q2Error, match="column 159: nested deeper than 50"):
        parse_pipeline("stats" + "{a=" * DEEP)
    with pytest.raises(Q2Error, match=r"^digits-dit\.toml, --set seed: "):
        RunFile.load("digits-dit.toml", ["seed=" + "[" * DEEP])
    for text in (f"bank.path={'x' * DEEP}", f"denoiser.checkpoint={'x/' * DEEP}", "denoiser.config=" + "{a=" * DEEP):
        assert RunFile.load("digits-dit.toml", [text]).settings  # names of files that are not there


def test_a_message_is_one_line_whatever_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('q2 = "recipe"\nversion = "\\u001b[31m\\n\\u2028' + "x" * DEEP + '"\n')
    with pytest.raises(Q2Error) as error:
        Recipe.load(tmp_path / "recipe.toml")
    assert str(error.value).isprintable()
    assert len(str(error.value)) == 2001


@pytest.mark.parametrize(
    "trial",
    [
        '{"recipe":{},"é":1}',
        '{"recipe":{"a":1}}',
        '{"recipe":{},"number":[1]}',
        '{"recipe":{},"metrics":{"a":[1]}}',
        '{"recipe":{},"metrics":{"a":1},"intervals":{"a":[1]}}',
        '{"recipe":{},"state":"odd"}',
        "[]",
        "[" * DEEP,
    ],
)
def test_a_record_that_is_no_trial_is_damage_and_the_others_are_read(tmp_path: Path, trial: str) -> None:
    store = TrialStore.open(tmp_path / "trials", Fingerprint("a", "b", "0.1.0"))
    store.add(Trial({"a": "uaq-4"}, {"bops": 1.0}))
    digest = sha256(trial.encode()).hexdigest()[:16]
    (tmp_path / "trials" / "x.jsonl").write_text(f'{{"sha256":"{digest}","trial":{trial}}}\n')
    found = TrialStore.read(tmp_path / "trials")
    assert len(found) == 1
    assert found.damaged == [f"{tmp_path / 'trials' / 'x.jsonl'}: line 1"]


def test_every_kind_of_record_of_a_store_is_damaged_under_a_checksum_that_fits(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", Fingerprint("a", "b", "0.1.0"))
    store.add(Trial({"a": "uaq-4"}, {"bops": 1.0}))
    (segment,) = (tmp_path / "trials").glob("*.jsonl")
    data, kinds = segment.read_bytes(), set[str]()
    for seed in range(200):
        lines = damaged(segment.name, data, random.Random(seed)).splitlines(keepends=True)
        changed = [line for line in lines if line not in data.splitlines(keepends=True)]
        kinds |= {record[0] for line in changed if (record := checked(line))}
    assert kinds == {"layers", "options", "trial"}


@pytest.mark.parametrize(
    "change",
    [
        lambda head, arrays: arrays.update(which=np.array([0.5])),
        lambda head, arrays: arrays.update(rows=np.zeros((1, 1), np.int64)),
        lambda head, arrays: arrays.update(codes=np.zeros((1, 1), bool)),
        lambda head, arrays: head.update(topologies=7),
        lambda head, arrays: head.update(fields=[]),
    ],
)
def test_a_graph_set_whose_arrays_do_not_fit_is_refused(tmp_path: Path, change: Callable[[Any, Any], None]) -> None:
    GraphSet.of([GRAPH]).save(tmp_path / "graphs.npz")
    with np.load(tmp_path / "graphs.npz") as file:
        arrays = dict(file)
    head = json.loads(arrays.pop("head").tobytes())
    change(head, arrays)
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    np.savez(tmp_path / "graphs.npz", **arrays)
    with pytest.raises(Q2Error, match=r"graphs\.npz: damaged: "):
        GraphSet.load(tmp_path / "graphs.npz")


@pytest.mark.parametrize("shape", [b"(10**12,)", b"(1000000000000,)", b"(" + b"9" * 40 + b",)", b"('a'"])
def test_an_array_that_claims_what_it_does_not_have_is_refused(tmp_path: Path, shape: bytes) -> None:
    GraphSet.of([GRAPH]).save(tmp_path / "graphs.npz")
    with np.load(tmp_path / "graphs.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "graphs.npz", **arrays)  # not compressed
    data = (tmp_path / "graphs.npz").read_bytes()
    assert data.count(b"(1,), }") > 0
    (tmp_path / "graphs.npz").write_bytes(data.replace(b"(1,), }", shape[:7].ljust(7)))
    with pytest.raises(Q2Error, match=r"graphs\.npz: cannot be read: "):
        GraphSet.load(tmp_path / "graphs.npz")


@pytest.mark.parametrize("nodes", [[1], ["a"], [[]], [{"op": "a", "width": float("inf")}]])
def test_nodes_that_are_none_are_refused(nodes: list[Any]) -> None:
    with pytest.raises(Q2Error, match=r"^graphs: malformed|^features: "):
        GraphSet.of([{**GRAPH, "nodes": nodes}])


def test_labels_whose_arrays_do_not_fit_are_refused() -> None:
    options, choices, nodes = ("uaq-3", "uaq-4"), ("a",), np.zeros((1, 2, 3))
    for wrong in (np.float64(3), np.zeros((1, 3, 3)), np.full((1, 2, 3), np.inf), np.zeros((1, 2, 0))):
        with pytest.raises(Q2Error, match="^nodes: expected "):
            Labels(options, choices, np.asarray(wrong), ())
    for variants, scores in ((np.array([[2]]), np.zeros((1, 3))), (np.array([[0]]), np.zeros((2, 3)))):
        with pytest.raises(Q2Error, match="^unit 'u': "):
            Labels(options, choices, nodes, (UnitScores("u", "u", ("a",), variants, scores, True),))


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FC00000, 0xFF800000])  # a signalling NaN makes NumPy warn
def test_labels_whose_scores_are_no_numbers_are_refused(tmp_path: Path, bits: int) -> None:
    nodes, scores = np.zeros((1, 2, 3)), np.zeros((1, 3))
    unit = UnitScores("u", "u", ("a",), np.array([[0]]), scores, True)
    Labels(("uaq-3", "uaq-4"), ("a",), nodes, (unit,)).save(tmp_path / "labels.npz")
    with np.load(tmp_path / "labels.npz") as file:
        arrays = dict(file)
    arrays["scores.0"] = np.full((1, 3), bits, np.uint32).view(np.float32)
    np.savez(tmp_path / "labels.npz", **arrays)
    with pytest.raises(Q2Error, match=r"labels\.npz: damaged: PredictorError unit 'u': a score is NaN or infinite$"):
        Labels.load(tmp_path / "labels.npz")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 4]},
    ],
)
def test_tensors_without_sizes_are_refused(tmp_path: Path, entry: dict[str, Any]) -> None:
    head = json.dumps({"a": entry}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))
    with pytest.raises(Q2Error, match=r"a\.safetensors: is truncated or damaged"):
        StoredWeights([tmp_path / "a.safetensors"])
