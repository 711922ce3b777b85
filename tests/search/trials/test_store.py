"""The trial store: what is added is read again, in files of its own form, small and readable."""

import json
import tracemalloc
from pathlib import Path

from q2.search.trials.lines import line
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
from tests.search.trials.stores import RUN, trial


def test_what_is_added_is_there_when_the_store_is_read_again(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "deep" / "trials", RUN)
    assert [store.add(trial(number, FID=number / 3)) for number in (2, 0, 1, 0)] == [True, True, True, False]
    again = TrialStore.open(tmp_path / "deep" / "trials", RUN)
    assert [found.number for found in again] == [0, 1, 2]
    assert list(again) == list(store)
    assert again[trial(2).id].metrics == {"FID": 2 / 3}
    assert trial(2).id in again
    assert trial(3).id not in again
    assert again.damaged == []


def test_the_files_are_json_lines(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.add(trial(0, FID=1.5))
    (segment,) = (tmp_path / "trials").glob("*.jsonl")
    layers, options, record = map(json.loads, segment.read_text(encoding="utf-8").splitlines())
    assert layers["layers"] == ["a", "b"]
    assert options["options"] == {"0": "uaq-1"}
    assert record["trial"] == {
        "id": trial(0).id,
        "metrics": {"FID": 1.5},
        "number": 0,
        "layers": layers["sha256"],
        "options": options["sha256"],
        "recipe": "00",
    }
    assert len(record["sha256"]) == 16
    assert {path.suffix for path in (tmp_path / "trials").iterdir()} == {".json", ".jsonl"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials"]


def test_a_store_takes_in_what_another_has_written_since(tmp_path: Path) -> None:
    ours, theirs = (TrialStore.open(tmp_path / "trials", RUN) for _ in range(2))
    ours.add(trial(0))
    theirs.add(trial(1))
    assert (len(ours), ours.refresh(), len(ours), ours.refresh()) == (1, 1, 2, 0)
    theirs.add(trial(2))
    assert (ours.refresh(), ours.damaged) == (1, [])


def old_store(path: Path, trials: list[Trial]) -> None:
    """Write a store as q2 did before recipes were encoded."""
    TrialStore.open(path, RUN)
    head = json.loads((path / "store.json").read_text())
    assert head["version"] == 2
    (path / "store.json").write_text(json.dumps(head | {"version": 1}))
    lines = [line("trial", each.to_json().encode()) for each in trials]
    (path / "0123456789abcdef0123456789abcdef.jsonl").write_bytes(b"".join(lines))


def test_a_store_of_before_is_read_and_gone_on_with_in_its_own_form_and_merges_into_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    old_store(path, [trial(0, FID=1.0), trial(1)])
    store = TrialStore.open(path, RUN)
    assert list(store) == [trial(0, FID=1.0), trial(1)]
    assert not store.add(trial(0, FID=1.0))
    assert store.add(trial(2, FID=2.0))
    for segment in path.glob("*.jsonl"):
        assert all(set(json.loads(text)) == {"sha256", "trial"} for text in segment.read_text().splitlines())
    new = TrialStore.open(tmp_path / "new", RUN)
    assert (new.merge(store), new.merge(store)) == (3, 0)
    assert list(TrialStore.read(new.path)) == list(TrialStore.read(path)) == list(store)
    assert (store.merge(new), TrialStore.read(path).merge(TrialStore.read(new.path))) == (0, 0)


def test_more_options_than_there_are_ascii_codes(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    recipes = [{"a": f"uaq-{number}", "b": "none"} for number in range(400)]
    store.extend([Trial(recipe, number=number) for number, recipe in enumerate(recipes)])
    assert [dict(found.recipe) for found in TrialStore.read(store.path)] == recipes


def test_trials_of_many_layers_take_little_room(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    layers = [f"down_blocks.{place}.attentions.1.transformer_blocks.9.attn1.to_q" for place in range(812)]
    for number in range(50):
        recipe = {layer: f"uaq-{2 + place * (number + 1) % 5}" for place, layer in enumerate(layers)}
        store.add(Trial(recipe, {"SQNR": number / 3}, {"SQNR": (0.0, 99.0)}, number=number))
    (segment,) = store.path.glob("*.jsonl")
    records = [text for text in segment.read_text().splitlines() if '"trial":' in text]
    assert max(map(len, records)) < 1100
    tracemalloc.start()
    found = TrialStore.read(store.path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(found) == list(store)
    assert held < 50 * 4096 + 400_000  # a trial and its share of the tables
