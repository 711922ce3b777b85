"""A run on an accelerator gives what it gives on the CPU: on a pretended device everywhere, and on CUDA where it is.

The pretended one refuses what CUDA refuses (`tests.pretended`) and computes with the CPU's kernels, so that numbers are
those of the CPU but for the order of sums. CUDA has kernels of its own, and convolutions in TF32.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import q2
from q2.config import RunFile
from q2.denoisers import Ask
from q2.errors import ConfigError
from q2.passes.base import weight_of
from q2.quant import Option, fit, quantize_layer
from q2.quant.bank import Bank, BankPlan, LayerPlan, build
from q2.quant.calibration.fit import fit_outputs
from q2.quant.calibration.gram import pieces
from q2.quant.calibration.moments import Problems
from q2.quant.calibration.problem import Problem
from q2.quant.calibration.rows import RowStore
from q2.quant.packed.layers import Packed, pack_layer, unpack_layer
from q2.quant.resolve import builtin_quantizer
from q2.session.bank import build_bank
from q2.session.calibrate import calibrate
from q2.session.sample import Order, pictures
from q2.session.search import search
from q2.session.session import Session
from tests import pretended

OPTIONS = ("uaq-3", "kmeans-c-2", "kmeans-a-4", "integer-5.3", "minifloat-8.e4m3", "mxfp4", "mxint-5")
SETS = (
    "denoiser.name=dit",
    "denoiser.tiny=true",
    "samples.images=0",
    "calibration.images=2",
    "calibration.steps=2",
    "calibration.rows=64",
    "search.trials=2",
    "search.target=latent-SQNR - avg_bits",
    "search.evaluation.images=2",
    "search.evaluation.steps=2",
    "search.evaluation.inputs=4",
    "search.evaluation.metrics=[]",
    "search.engine.workers=1",
    'search.options=["uaq-3", "none"]',
)


PRETENDED = [pretended.NAME] if pretended.IS_POSSIBLE else []


@pytest.fixture(params=[*PRETENDED, pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = str(request.param)
    if name == pretended.NAME:
        pretended.register()
    return name


def session(device: str, *sets: str) -> Session:
    return Session(
        RunFile.load("digits-dit.toml", [*SETS, f"denoiser.device={device}", f"bank.device={device}", *sets])
    )


def _moved(weights: dict[str, Tensor], place: str, name: str) -> Tensor:
    return weights[name].to(place)


def near(device: str, one: Tensor, other: Tensor) -> None:
    """Compare values that a denoiser made."""
    bound = 1e-3 if device == pretended.NAME else 2e-2
    torch.testing.assert_close(one.cpu(), other.cpu(), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("option", OPTIONS)
def test_plain_fits_are_the_cpus_bit_by_bit(device: str, option: str, dtype: torch.dtype) -> None:
    layer = nn.Conv2d(6, 8, 3, groups=2).to(dtype)
    weight = layer.weight.detach()
    mine, theirs = fit(weight, option), fit(weight.to(device), option)
    assert mine.errors == theirs.errors
    assert torch.equal(mine.codes(), theirs.codes().cpu())
    for name, tensor in mine.parameters.items():
        assert torch.equal(tensor, theirs.parameters[name].cpu())
    assert torch.equal(mine.dequantize(), theirs.dequantize().cpu())
    there = copy.deepcopy(layer).to(device)
    simulated = quantize_layer(there, theirs)
    assert torch.equal(weight_of(simulated).cpu(), mine.dequantize())


def test_the_errors_of_a_weight_of_many_blocks_are_the_cpus_bit_by_bit(device: str) -> None:
    weight = torch.randn(300, 700)
    mine, theirs = fit(weight, "uaq-3"), fit(weight.to(device), "uaq-3")
    assert mine.errors == theirs.errors
    assert torch.equal(mine.codes(), theirs.codes().cpu())


@pytest.mark.parametrize("option", OPTIONS[:3])
def test_packed_layers_hold_the_cpus_bytes_and_compute_there(device: str, option: str) -> None:
    layer, x = nn.Linear(36, 20), torch.randn(3, 36)
    before = quantize_layer(layer, fit(layer.weight.detach(), option))
    moved = copy.deepcopy(layer).to(device)
    there: Any = pack_layer(quantize_layer(moved, fit(moved.weight.detach(), option)))
    here: Any = pack_layer(before)
    assert isinstance(there, Packed)
    assert torch.equal(there.weight.cpu(), here.weight)
    near(device, there(x.to(device)), here(x))
    assert torch.equal(copy.deepcopy(here).to(device).weight.cpu(), here.weight)
    assert torch.equal(copy.deepcopy(there).to("cpu").weight, here.weight)
    assert torch.equal(unpack_layer(there).weight.cpu(), unpack_layer(here).weight)


@pytest.mark.parametrize("name", ["uaq", "kmeans-c", "kmeans-a"])
@pytest.mark.parametrize("shape", [(12, 20), (6, 2, 3, 3)])
def test_calibrated_fits_differ_by_rounding_alone(device: str, name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight, rows = torch.randn(shape), torch.randn(80, 20 if len(shape) == 2 else 36).mul(torch.rand(1) + 0.5)
    quantizer, widths = builtin_quantizer(name), (2, 3)

    def found(place: str) -> list[Any]:
        there = weight.to(place)
        parts = pieces(rows.to(place), there.shape, 1 / len(rows))
        return fit_outputs(there, quantizer, widths, Problem(there.flatten(1), parts))

    for mine, theirs in zip(found("cpu"), found(device), strict=True):
        assert theirs.outputs.error <= theirs.outputs.plain * (1 + 1e-6)
        assert theirs.outputs.error == pytest.approx(mine.outputs.error, rel=1e-3)
        assert theirs.outputs.signal == pytest.approx(mine.outputs.signal, rel=1e-5)
        for key, tensor in mine.parameters.items():
            assert theirs.parameters[key].device.type == torch.device(device).type
            torch.testing.assert_close(tensor.float(), theirs.parameters[key].cpu().float(), rtol=1e-2, atol=1e-2)


def test_rows_and_a_calibrated_bank_are_those_of_the_cpu(device: str, tmp_path: Path) -> None:
    reports = {place: calibrate(session(place), tmp_path / f"rows-{place}") for place in ("cpu", device)}
    stores = [RowStore.open(report.store.folder) for report in reports.values()]
    for layer in stores[0].layers:
        mine, theirs = (store.rows(layer) for store in stores)
        assert mine
        assert theirs
        near(device, mine.values, theirs.values)
    denoiser = session("cpu").denoiser
    every = {name: weight_of(denoiser.model.get_submodule(name)) for name in stores[0].layers}
    weights = {name: every[name] for name in sorted(every, key=lambda name: every[name].numel())[:2]}
    layers = {name: LayerPlan(weight.shape, {name: None}) for name, weight in weights.items()}
    plan = BankPlan("dit", "", "float32", 16, ("uaq-3", "kmeans-c-2"), layers, "rows")
    banks = []
    for place in ("cpu", device):
        folder = tmp_path / f"bank-{place}"
        read = partial(_moved, weights, place)
        build(folder, plan, read, builtin_quantizer, problems=Problems(stores[0]))
        banks.append(Bank.open(folder, builtin_quantizer))
    for name in layers:
        one, other = (bank.fitted(name, Option.parse("uaq-3")) for bank in banks)
        assert one
        assert other
        assert one.outputs
        assert other.outputs
        assert other.outputs.error == pytest.approx(one.outputs.error, rel=1e-2)  # a tie may be chosen otherwise


def test_a_plain_bank_is_the_cpus_byte_by_byte(device: str, tmp_path: Path) -> None:
    folders = [
        build_bank(session(place, 'bank.options=["uaq-3", "kmeans-a-2"]'), tmp_path / place).bank.folder
        for place in ("cpu", device)
    ]
    names = sorted(path.name for path in folders[0].iterdir())
    assert len(names) > 10
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)


def test_a_bank_on_a_device_that_is_not_here_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bank.device: device 'gpu' cannot be used here"):
        build_bank(session("cpu", "bank.device=gpu"), tmp_path / "bank")


def test_pictures_with_quantized_activations_are_those_of_the_cpu(device: str) -> None:
    order = Order(Ask(), n=2, steps=2, act_bits=8, compare=True)
    mine, theirs = pictures(session("cpu"), order), pictures(session(device), order)
    assert theirs.full is not None
    assert mine.full is not None
    near(device, mine.full, theirs.full)
    bound = 1e-3 if device == pretended.NAME else 5e-2  # a rounding to 8 bits may fall to the other side
    torch.testing.assert_close(mine.images, theirs.images, rtol=bound, atol=bound)


def test_offloading_draws_the_same_pictures(device: str) -> None:
    whole = pictures(session("cpu"), Order(Ask(), n=1, steps=2, compare=True))
    for offload in ("model", "sequential"):
        parts = pictures(session(device), Order(Ask(), n=1, steps=2, compare=True, offload=offload))
        near(device, whole.images, parts.images)
        assert whole.full is not None
        assert parts.full is not None
        near(device, whole.full, parts.full)


def test_offloading_one_by_one_leaves_there_what_a_graph_reads_of_blocks(device: str) -> None:
    run = RunFile.load("pixart-alpha.toml", ["denoiser.tiny=true", "denoiser.dtype=float32", "samples.images=0"])
    order = Order(Ask(), n=1, steps=2)
    here = pictures(Session(run.overridden(["denoiser.device=cpu"])), order)
    for offload in ("model", "sequential"):
        there = pictures(Session(run.overridden([f"denoiser.device={device}"])), replace(order, offload=offload))
        near(device, here.images, there.images)


@pytest.mark.parametrize("fidelity", ["forward", "full"])
def test_a_recipe_has_the_metrics_that_it_has_on_the_cpu(device: str, fidelity: str) -> None:
    metrics = []
    for place in ("cpu", device):
        target = {"forward": "SQNR", "full": "latent-SQNR"}[fidelity]
        sets = (f"denoiser.device={place}", f"search.evaluation.fidelity={fidelity}", f"search.target={target}")
        run = q2.open("digits-dit.toml", [*SETS, *sets])
        metrics.append(run.evaluate(dict.fromkeys(list(run.outline.choices)[::2], "uaq-3")).metrics)
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-3 if device == pretended.NAME else 2e-2)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)])  # autograd knows no late backend
def test_a_search_by_gradients_finds_what_it_does_on_the_cpu(device: str, tmp_path: Path) -> None:
    mine, theirs = (search(session(place, "search.strategy=fisher"), tmp_path / place) for place in ("cpu", device))
    assert len(mine.trials) == len(theirs.trials) > 0
    for one, other in zip(mine.trials, theirs.trials, strict=True):
        assert one.metrics == pytest.approx(other.metrics, rel=2e-2)


@pytest.mark.parametrize("name", PRETENDED)
def test_the_pretended_device_refuses_what_cuda_refuses(name: str) -> None:
    pretended.register()
    x, cpu = torch.ones(2, 2, device=name), torch.ones(2, 2)
    assert x.device.type == name
    assert torch.equal((x + torch.tensor(1.0)).cpu(), cpu + 1)
    assert torch.equal(x[torch.tensor([0])].cpu(), cpu[:1])
    refused: tuple[Callable[[], Tensor], ...] = (
        lambda: x + cpu,
        lambda: cpu + x,
        lambda: nn.functional.linear(x, cpu),
        lambda: cpu[x.long()],
        lambda: torch.cat([cpu, x]),
        lambda: torch.randn(2, device=name, generator=torch.Generator()),
        lambda: torch.mm(x.long(), x.long()),
    )
    for wrong in refused:
        with pytest.raises(pretended.WrongDeviceError):
            wrong()
    converters: tuple[Callable[[Tensor], object], ...] = (Tensor.numpy, np.asarray)
    for convert in converters:
        with pytest.raises((TypeError, RuntimeError), match="numpy"):
            convert(x)
    with pretended.counted() as counts:
        assert x.sum().item() == 4
    assert counts["_local_scalar_dense"] == 1
    part = x[0]
    part.zero_()
    assert x.tolist() == [[0, 0], [1, 1]]
