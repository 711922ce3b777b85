"""Merging trial stores: the same result in any order, and the store of another run is refused."""

import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.errors import TrialError
from q2.search.trials.store import Fingerprint, TrialStore
from q2.search.trials.trial import Trial
from tests.search.trials.stores import RUN, trial


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
