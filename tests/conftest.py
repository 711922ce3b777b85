"""What the tests share: the embedded denoiser, loaded afresh, and its traced graph."""

import gc
import os
import signal
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["Q2_TRUST"] = "1"  # run files of tests name code of tests; tests/test_trust.py goes without
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background: processes of tests inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

import q2
from q2.cli import COLLECTED_AFTER
from q2.config import RunFile
from q2.denoisers import Denoiser
from q2.graph import Graph
from q2.session.bank import build_bank
from q2.session.session import Session

gc.set_threshold(COLLECTED_AFTER)


def pytest_collection_finish() -> None:
    """Have the garbage collector look no more at what is there before the first test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        needs = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=needs)
        items[:] = [item for item in items if item not in needs]


@pytest.fixture
def digits() -> Denoiser:
    return q2.denoiser("digits-dit")


@pytest.fixture
def graph(digits: Denoiser) -> Graph:
    return q2.trace(digits.model, digits.example_inputs())


@pytest.fixture
def default_run() -> RunFile:
    return RunFile.load("digits-dit.toml")


@pytest.fixture(scope="session")
def one_option_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank of digits-dit with `uaq-4` alone, for searches whose other option is full precision."""
    folder = tmp_path_factory.mktemp("bank") / "digits"
    build_bank(Session(RunFile.load("digits-dit.toml", ['bank.options=["uaq-4"]'])), folder)
    return folder
