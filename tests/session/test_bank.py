"""`q2 bank` and what uses it: real denoisers, killed and resumed, split layers, switching in place."""

from pathlib import Path

import pytest
import torch

import q2
from q2.config import RunFile
from q2.denoisers import Denoiser
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.errors import BankError, CheckpointError, Q2Error
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.analysis.bops import BOPS, Bops
from q2.passes.analysis.size import SIZES, Size
from q2.passes.transform.apply import apply_options
from q2.plugins import Plugins
from q2.quant import Option, parts_of
from q2.quant.bank import Bank
from q2.session.bank import bank_in, fit_bank, open_bank
from q2.session.session import Session

OPTIONS = ("kmeans-c-4", "uaq-3")


def make(denoiser: Denoiser, folder: Path, options: tuple[str, ...] = OPTIONS) -> Bank:
    shapes = q2.denoiser(denoiser.name, weights="meta", tiny=denoiser.tiny)
    outline = q2.trace(shapes.model, shapes.example_inputs())
    return fit_bank(denoiser, outline, folder, options=options, plugins=Plugins()).bank


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Denoiser, Graph, Bank]:
    denoiser = q2.denoiser("digits-dit")
    bank = make(denoiser, tmp_path_factory.mktemp("bank"))
    return denoiser, q2.trace(denoiser.model, denoiser.example_inputs()), bank


def test_the_bank_is_used_and_gives_what_fitting_gives(digits: tuple[Denoiser, Graph, Bank]) -> None:
    denoiser, graph, bank = digits
    plan = {name: Option.parse(OPTIONS[i % 2]) for i, name in enumerate(graph.choices)}
    apply_options(graph, plan, PassContext(Plugins(), denoiser, bank=bank))
    part = parts_of(graph.weight_layers["proj_out_1"].module)[0]
    assert part.fitted is bank.fitted("proj_out_1", part.option)
    other = q2.denoiser("digits-dit")
    fresh = q2.trace(other.model, other.example_inputs())
    apply_options(fresh, plan, PassContext(Plugins(), other))
    state = other.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in denoiser.model.state_dict().items())


def test_recipes_are_switched_in_place_from_the_checkpoint(digits: tuple[Denoiser, Graph, Bank]) -> None:
    denoiser, graph, bank = digits
    ctx = PassContext(Plugins(), denoiser, bank=bank)
    names = list(graph.choices)
    apply_options(graph, dict.fromkeys(names, Option.parse("uaq-3")), ctx)
    held = {name: graph.weight_layers[name].module.weight for name in names}
    first = {name: held[name].clone() for name in names}  # type: ignore[operator]
    changed = apply_options(graph, {**dict.fromkeys(names, Option.parse("uaq-3")), names[3]: Option.parse("none")}, ctx)
    assert list(changed) == [names[3]]
    exact = denoiser.exact_weight(names[3])
    assert exact is not None
    assert torch.equal(graph.weight_layers[names[3]].module.weight, exact)  # type: ignore[arg-type]
    assert not torch.equal(exact, first[names[3]])
    apply_options(graph, {names[3]: Option.parse("uaq-3")}, ctx)
    for name in names:
        assert graph.weight_layers[name].module.weight is held[name]
        assert torch.equal(held[name], first[name])  # type: ignore[arg-type]
        assert graph.weight_layers[name].module.exact is None


def test_a_split_layer_is_two_choices_everywhere(tmp_path: Path) -> None:
    denoiser = q2.denoiser("sdv15", tiny=True)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    split = [choice for choice in graph.choices.values() if choice.channels]
    assert split
    assert len(graph.choices) == len(graph.weight_layers) + len(split) // 2
    for low, high in zip(split[::2], split[1::2], strict=True):
        assert high.name == f"{low.name}#1"
        assert low.channels is not None
        assert high.channels == (low.channels[1], low.layer.shape[1])
        assert low.weights + high.weights == low.layer.weights
        assert low.macs + high.macs == low.layer.macs
    bank, low, high = make(denoiser, tmp_path), split[0], split[1]
    ctx = PassContext(Plugins(), denoiser, bank=bank)
    exact = low.layer.module.weight.clone()  # type: ignore[operator]
    changed = apply_options(graph, {low.name: Option.parse("kmeans-c-4"), high.name: Option.parse("uaq-3")}, ctx)
    assert list(changed) == [low.name, high.name]
    for choice in (low, high):
        part = next(part for part in parts_of(low.layer.module) if part.channels == choice.channels)
        fitted = bank.fitted(choice.name, part.option)
        assert fitted is not None
        assert tuple(fitted.shape) == choice.shape
        held = part.of(low.layer.module.weight)  # type: ignore[arg-type]
        assert torch.equal(held, fitted.restore(part.of(exact)))
    q2.run_passes(graph, [Size(), Bops()], denoiser=denoiser)
    sizes, bops = graph.facts.get(SIZES), graph.facts.get(BOPS)
    assert list(sizes) == list(bops) == list(graph.choices)
    assert sizes[high.name].overhead == 2 * 16 * high.shape[0]
    assert sizes[low.name].overhead == 16 * 16 * low.shape[0]
    assert (bops[low.name].bops, bops[high.name].bops) == (low.macs * 16 * 16, high.macs * 3 * 16)
    before = low.layer.module
    apply_options(graph, {low.name: Option.parse("none")}, ctx)
    assert low.layer.module is before
    assert torch.equal(low.layer.module.weight[:, : low.shape[1]], exact[:, : low.shape[1]])  # type: ignore[index]
    assert not torch.equal(low.layer.module.weight[:, low.shape[1] :], exact[:, low.shape[1] :])  # type: ignore[index]


def test_a_bank_for_other_weights_or_dtypes_is_refused(digits: tuple[Denoiser, Graph, Bank]) -> None:
    _, graph, bank = digits
    other = q2.denoiser("digits-dit", dtype="float16")
    with pytest.raises(BankError, match=r"the bank does not fit \(dtype float16, not float32\)"):
        bank_in(bank.folder, graph, other, plugins=Plugins())
    random = q2.denoiser("digits-dit", weights="random")
    with pytest.raises(BankError, match=r"the bank does not fit \(weights [0-9a-f]{16}, not [0-9a-f]{16}\)"):
        bank_in(bank.folder, graph, random, plugins=Plugins())
    assert open_bank(Session(RunFile.load("digits-dit.toml"))) is None
    with pytest.raises(BankError, match="is no bank"):
        bank_in(Path("nowhere"), graph, other, plugins=Plugins())


def test_weights_without_values_and_unknown_options_are_one_line(tmp_path: Path) -> None:
    for options, weights, message in (
        (OPTIONS, "meta", "weights on meta have no values to fit"),
        (("kmean-4",), "random", "no quantizer named 'kmean' in 'kmean-4'; did you mean 'kmeans-c'"),
        (("none",), "random", "'none' needs no bank"),
    ):
        denoiser = q2.denoiser("dit", tiny=True, weights=weights)  # type: ignore[arg-type]
        with pytest.raises(Q2Error, match=message):
            make(denoiser, tmp_path / "bank", options)
    assert not (tmp_path / "bank").exists()


def test_stored_weights_are_the_loaded_ones_and_damage_is_one_line(tmp_path: Path) -> None:
    denoiser = q2.denoiser("digits-dit", dtype="float16")
    state = denoiser.model.state_dict()
    assert denoiser.stored is not None
    assert set(state) <= set(denoiser.stored)
    for name in list(state)[:20]:
        assert denoiser.stored.shape(name) == tuple(state[name].shape)
        assert torch.equal(denoiser.stored[name].half(), state[name])
    denoiser.model.save_pretrained(tmp_path / "transformer", max_shard_size="2MB")  # type: ignore[operator]
    files = sorted((tmp_path / "transformer").glob("*.safetensors"))
    assert len(files) > 2
    sharded = StoredWeights(files)
    assert all(torch.equal(sharded[name], state[name]) for name in state)
    files[1].write_bytes(files[1].read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{files[1].name}: is truncated or damaged \(.* does not fit\)$"):
        StoredWeights(files)
    files[1].write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="its head is longer than it is"):
        StoredWeights(files)
