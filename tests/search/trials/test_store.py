"""The trial store: nothing that was acknowledged is lost, whoever writes, crashes or merges."""

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.errors import Q2Error, TrialError
from q2.search.trials.lines import line
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial

RUN = Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200, "sampler": {"steps": 8}})

WRITER = """
import json, sys
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
path, first, last, layers = sys.argv[1], *map(int, sys.argv[2:])
store = TrialStore.open(path, Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 200, "sampler": {"steps": 8}}))
print("ready", flush=True)
sys.stdin.readline()
for number in range(first, last):
    recipe = {f"blocks.{layer}.to_q": f"uaq-{1 + (number >> layer % 20) % 2}" for layer in range(layers)}
    store.add(Trial(recipe, {"FID": number / 3}, number=number, seed=number))
    print(number, flush=True)
"""


def writer(path: Path, first: int, last: int, layers: int = 20) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last), str(layers)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def start(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def trial(number: int, **metrics: float) -> Trial:
    return Trial({"a": f"uaq-{number % 8 + 1}", "b": f"uaq-{number // 8 + 1}"}, metrics, number=number)


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


def test_a_torn_tail_is_passed_over_wherever_it_was_torn(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.add(trial(0))
    (segment,) = (tmp_path / "trials").glob("*.jsonl")
    whole = segment.read_bytes()
    store.add(trial(1))
    both = segment.read_bytes()
    for length in range(len(whole), len(both)):
        segment.write_bytes(both[:length])
        reader = TrialStore.open(tmp_path / "trials", RUN)
        assert [found.number for found in reader] == [0]
        assert reader.damaged == []
        with segment.open("ab") as file:
            file.write(both[length:])
        assert reader.refresh() == 1
        assert [found.number for found in reader] == [0, 1]


def test_a_flipped_bit_costs_one_record_and_is_reported(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.extend([trial(number, FID=float(number)) for number in range(4)])
    (segment,) = (tmp_path / "trials").glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    records = [place for place, text in enumerate(lines) if b'"trial":' in text]
    assert (len(lines), len(records)) == (8, 4)  # two tables, each of them twice
    dice = random.Random(0)
    for turn in range(80):
        damaged = turn % 8
        place = dice.randrange(len(lines[damaged]) - 1)
        wrong = bytearray(lines[damaged])
        wrong[place] ^= 1 << dice.randrange(7)
        if b"\n" in wrong[:-1]:
            continue
        segment.write_bytes(b"".join([*lines[:damaged], bytes(wrong), *lines[damaged + 1 :]]))
        found = TrialStore.read(tmp_path / "trials")
        lost = records.index(damaged) if damaged in records else None
        assert [entry.number for entry in found] == [number for number in range(4) if number != lost]
        assert list(found) == [entry for entry in store if entry.number != lost]
        assert found.damaged == [f"{segment}: line {damaged + 1}"]


def test_trials_whose_tables_are_lost_are_reported_until_a_segment_has_them(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.extend([trial(0), trial(1)])
    (segment,) = store.path.glob("*.jsonl")
    lines = segment.read_bytes().splitlines(keepends=True)
    records = [text for text in lines if b'"trial":' in text]
    segment.write_bytes(b"".join(records))
    found = TrialStore.read(store.path)
    assert len(found) == 0
    assert found.damaged == [f"{segment}: line 1", f"{segment}: line 2"]
    (store.path / "another.jsonl").write_bytes(b"".join(text for text in lines if text not in records))
    assert (found.refresh(), found.damaged) == (2, [])
    assert list(found) == list(store)


@pytest.mark.parametrize(
    "body",
    [
        b'{"recipe":"00"}',
        b'{"recipe":3}',
        b'{"metrics":{}}',
        b"[]",
        b'{"recipe":{},"metrics":{"FID":Infinity}}',
        b'{"recipe":{},"metric":{}}',
    ],
)
def test_a_record_that_something_else_wrote_is_reported(tmp_path: Path, body: bytes) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    (store.path / "odd.jsonl").write_bytes(line("trial", body) + line("layers", b"{}") + line("options", b"[]"))
    assert store.refresh() == 0
    assert store.damaged == [f"{store.path}/odd.jsonl: line {number}" for number in (1, 2, 3)]


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


def test_a_segment_copied_into_another_store_is_a_merge(tmp_path: Path) -> None:
    ours, theirs = (TrialStore.open(tmp_path / name, RUN) for name in "ab")
    ours.extend([trial(number) for number in (9, 10)])
    theirs.extend([trial(number) for number in range(9)])  # other options have the same codes
    theirs.add(Trial({"c": "uaq-2", "a": "kmeans-c-3"}))
    for segment in theirs.path.glob("*.jsonl"):
        shutil.copy(segment, ours.path)
    assert ours.refresh() == 10
    expected = [*(trial(number) for number in range(11)), Trial({"a": "kmeans-c-3", "c": "uaq-2"})]
    assert list(ours) == list(TrialStore.read(ours.path)) == expected
    assert ours.damaged == []


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


def test_processes_that_write_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    processes = [writer(path, 60 * index, 60 * index + 120) for index in range(3)]
    assert [said(process) for process in processes] == ["ready"] * 3
    for process in processes:
        start(process)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    store = TrialStore.open(path, RUN)
    assert [found.number for found in store] == list(range(240))
    assert len(store) == 240
    assert store.damaged == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["trials"]


FORKS = """
import os, sys
from q2.search.trials.store import TrialStore
from q2.search.trials.trial import Trial
store = TrialStore.read(sys.argv[1])
store.add(Trial({"a": "uaq-1"}, number=0))
child = os.fork()
for number in range(1, 40):
    store.add(Trial({"a": "uaq-1"}, seed=number + 1000 * (child == 0), number=number))
if child:
    os.waitpid(child, 0)
"""


def test_a_forked_child_writes_a_segment_of_its_own(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    subprocess.run([sys.executable, "-c", FORKS, str(store.path)], timeout=60, check=True)
    assert store.refresh() == 79
    assert store.damaged == []
    assert len(list(store.path.glob("*.jsonl"))) == 2


def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    dice = random.Random(1)
    acknowledged: set[int] = set()
    for turn in range(4):
        process = writer(path, turn * 100_000, (turn + 1) * 100_000, layers=4000)
        assert said(process) == "ready"
        start(process)
        acknowledged |= {int(said(process)) for _ in range(dice.randrange(1, 6))}
        time.sleep(dice.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        acknowledged |= {int(line) for line in rest.split("\n")[:-1]}
    store = TrialStore.open(path, RUN)
    numbers = {found.number for found in store}
    assert acknowledged <= numbers
    assert len(numbers) <= len(acknowledged) + 4
    assert store.damaged == []
    assert store.add(trial(0))
    assert len(TrialStore.read(path)) == len(numbers) + 1


def test_two_stores_merge_to_the_same_in_any_order_and_twice(tmp_path: Path) -> None:
    stores = [TrialStore.open(tmp_path / name, RUN) for name in "abc"]
    for index, store in enumerate(stores):
        for number in range(index, index + 4):
            store.add(trial(number, FID=float(number), **{f"from-{index}": 1.0}))
    stores[0].add(Trial(trial(3).recipe, state="failed", error="killed"))
    merged = []
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        target = TrialStore.open(tmp_path / f"merged{order}", RUN)
        assert sum(target.merge(stores[index]) for index in order) == 13
        assert [target.merge(stores[index]) for index in order] == [0, 0, 0]
        merged.append(list(TrialStore.read(target.path)))
    assert merged[0] == merged[1] == merged[2]
    assert [found.number for found in merged[0]] == list(range(6))
    assert merged[0][2].metrics == {"FID": 2.0, "from-0": 1.0, "from-1": 1.0, "from-2": 1.0}


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "crash", "merge", "reopen"]), st.integers(0, 2), st.integers(0, 11)),
    max_size=25,
)


@given(STEPS)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_any_interleaving_of_writes_crashes_and_merges_keeps_what_was_acknowledged(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    paths = [folder / "x", folder / "x", folder / "y"]  # two writers of one store, and another store
    stores = [TrialStore.open(path, RUN) for path in paths]
    kept: dict[Path, set[str]] = {path: set() for path in paths}
    for turn, (step, who, number) in enumerate(steps):
        record = trial(number % 4, **{f"m{number}": 1.0})
        path = paths[who]
        if step == "add":
            stores[who].add(record)
            kept[path].add(record.to_json())
        elif step == "crash":  # killed while writing: part of a line is there, the process is not
            body = record.to_json()
            line = f'{{"sha256":"{sha256(body.encode()).hexdigest()[:16]}","trial":{body}}}\n'
            (path / f"{turn}.jsonl").write_text(line[: len(line) * number // 12])
            stores[who] = TrialStore.open(path, RUN)
        elif step == "merge":
            source = stores[(who + 1) % 3]
            source.refresh()
            stores[who].merge(source)
            kept[path] |= kept[source.path]
        else:
            stores[who] = TrialStore.open(path, RUN)
    for path, texts in kept.items():
        found = TrialStore.read(path)
        expected: dict[str, set[str]] = {}
        for record_text in texts:
            entry = Trial.from_json(record_text)
            expected.setdefault(entry.id, set()).update(entry.metrics)
        assert {entry.id: set(entry.metrics) for entry in found} == expected
        assert found.damaged == []
    orders = [(paths[0], paths[2]), (paths[2], paths[0])]
    merged = [TrialStore.open(folder / f"merged{index}", RUN) for index in range(2)]
    for target, order in zip(merged, orders, strict=True):
        for path in order:
            target.merge(TrialStore.read(path))
    assert list(merged[0]) == list(merged[1])


@pytest.mark.parametrize(
    ("run", "difference"),
    [
        (Fingerprint("sdxl", "0a1b", "0.1.0", RUN.evaluation), 'denoiser is "digits-dit", not "sdxl"'),
        (Fingerprint("digits-dit", "ffff", "0.1.0", RUN.evaluation), 'checkpoint is "0a1b", not "ffff"'),
        (Fingerprint("digits-dit", "0a1b", "0.2.0", RUN.evaluation), 'version is "0.1", not "0.2"'),
        (
            Fingerprint("digits-dit", "0a1b", "0.1.0", {"images": 1000, "sampler": {"steps": 8, "eta": 0.5}}),
            "evaluation.images is 200, not 1000; evaluation.sampler.eta is nothing, not 0.5",
        ),
    ],
)
def test_the_store_of_another_run_is_refused_with_what_differs(
    tmp_path: Path, run: Fingerprint, difference: str
) -> None:
    path = tmp_path / "trials"
    store = TrialStore.open(path, RUN)
    with pytest.raises(TrialError) as error:
        TrialStore.open(path, run)
    assert str(error.value) == f"{path}: the trials of another run: {difference}"
    other = TrialStore.open(tmp_path / "other", run)
    other.add(trial(0))
    with pytest.raises(TrialError, match="other: the trials of another run than "):
        store.merge(other)
    assert len(TrialStore.read(path)) == 0


def test_a_patch_release_goes_on_with_the_same_store(tmp_path: Path) -> None:
    TrialStore.open(tmp_path / "trials", RUN)
    TrialStore.open(tmp_path / "trials", Fingerprint("digits-dit", "0a1b", "0.1.9", RUN.evaluation))


def no_folder(path: Path) -> None:
    path.touch()


def no_head(path: Path) -> None:
    path.mkdir()
    (path / "report.json").touch()


def wrong_head(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "store.json").write_text(text)

    return write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "trials: no trial store, expected a folder with store.json"),
        (no_folder, "trials: no trial store, expected a folder with store.json"),
        (no_head, "trials: no trial store, expected a folder with store.json"),
        (wrong_head("{"), "store.json: cannot be read: "),
        (wrong_head("[]"), "store.json: expected a trial store of version 1 or 2"),
        (wrong_head('{"q2": "trials", "version": 3}'), "store.json: expected a trial store of version 1 or 2"),
        (wrong_head('{"q2": "trials", "version": 1}'), "store.json: fingerprint.denoiser: "),
        (
            wrong_head('{"q2": "trials", "version": 1, "fingerprint": {"denoizer": "x"}}'),
            "store.json: fingerprint.denoizer: unknown key; did you mean 'denoiser'?",
        ),
    ],
)
def test_what_is_no_store_is_one_line(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "trials"
    make(path)
    with pytest.raises(Q2Error) as error:
        TrialStore.read(path)
    assert str(error.value).startswith(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_write_that_fails_is_one_line_and_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.add(trial(0))

    def full(handle: int) -> None:
        os.ftruncate(handle, os.fstat(handle).st_size - 9)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("q2.search.trials.store.os.fsync", full)
        with pytest.raises(TrialError, match=r"trials: cannot be written: .*No space left on device"):
            store.add(trial(1))
    assert trial(1).id not in store
    assert store.add(trial(1))
    again = TrialStore.read(tmp_path / "trials")
    assert [found.number for found in again] == [0, 1]
    assert again.damaged == []


def test_of_two_processes_that_make_a_store_the_second_finds_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def late(beside: Path, path: Path) -> Path:
        if not path.exists():
            shutil.copytree(beside, path)  # another was quicker
        return rename(beside, path)

    monkeypatch.setattr(Path, "rename", late)
    assert TrialStore.open(tmp_path / "trials", RUN).add(trial(0))
    assert [entry.name for entry in tmp_path.iterdir()] == ["trials"]


def test_a_store_travels_to_a_worker_as_its_path(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    store.add(trial(0))
    there = pickle.loads(pickle.dumps(store))
    there.add(trial(1))
    assert store.refresh() == 1
    assert len(list((tmp_path / "trials").glob("*.jsonl"))) == 2


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = TrialStore.open(tmp_path / "trials", RUN)
    with ThreadPoolExecutor(4) as pool:
        added = list(pool.map(lambda index: store.add(trial(index % 50)), range(200)))
    assert sum(added) == 50
    assert [found.number for found in TrialStore.read(store.path)] == list(range(50))


def test_a_store_cannot_be_made_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrialError, match="trials: cannot be made: "):
        TrialStore.open(tmp_path / "file" / "trials", RUN)
