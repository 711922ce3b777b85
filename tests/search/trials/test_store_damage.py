"""Damaged trial stores: torn tails, flipped bits and foreign records cost what they hit, and are reported."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from q2.errors import Q2Error, TrialError
from q2.search.trials.lines import line
from q2.search.trials.store import TrialStore
from tests.search.trials.stores import RUN, trial


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


def test_a_store_cannot_be_made_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrialError, match="trials: cannot be made: "):
        TrialStore.open(tmp_path / "file" / "trials", RUN)
