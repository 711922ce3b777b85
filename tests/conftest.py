"""What the tests share: the embedded denoiser, loaded afresh, and its traced graph."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

import q2
from q2.config import RunFile
from q2.denoisers import Denoiser
from q2.graph import Graph


@pytest.fixture
def digits() -> Denoiser:
    return q2.denoiser("digits-dit")


@pytest.fixture
def graph(digits: Denoiser) -> Graph:
    return q2.trace(digits.model, digits.example_inputs())


@pytest.fixture
def default_run() -> RunFile:
    return RunFile.load("digits-dit.toml")
