"""The calibrate pass: layers fitted again in order, taken back, and what stands in its way."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import q2
from q2.denoisers import Denoiser
from q2.errors import ConfigError, PassError, Q2Error
from q2.graph import Graph
from q2.passes import PassContext, PassManager
from q2.passes.base import weight_of
from q2.passes.transform.calibrate import Calibrate
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.passes.transform.switch import Switch
from q2.quant import Option, parts_of
from q2.quant.calibration.fit import Refitted
from q2.quant.packed.layers import pack_layer

FEW = Calibrate(images=3, steps=3, rows=900, batch=2)
OPTIONS = {"to_": "kmeans-c-2", "ff": "uaq-3", "linear": "kmeans-a-3", "pos_embed": "uaq-2"}


def context(denoiser: Denoiser) -> PassContext:
    return PassContext(denoiser=denoiser, seed=7)


def made(name: str, **rules: str) -> tuple[Denoiser, Graph]:
    denoiser = q2.denoiser(name, tiny=True)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    Quantize(by="regex", rules=rules).run(graph, context(denoiser))
    return denoiser, graph


def weights(graph: Graph) -> dict[str, Tensor]:
    return {name: weight_of(layer.module).clone() for name, layer in graph.weight_layers.items()}


def calls_of(denoiser: Denoiser, seed: int) -> list[tuple[Any, Any]]:
    """The model's calls while two images are denoised."""
    found: list[tuple[Any, Any]] = []
    handle = denoiser.model.register_forward_pre_hook(
        lambda _, args, kwargs: found.append((args, kwargs)), with_kwargs=True
    )
    denoiser.generate(2, seed=seed, steps=3)
    handle.remove()
    return found


@torch.no_grad()
def outputs(denoiser: Denoiser, calls: list[tuple[Any, Any]]) -> Tensor:
    model: Any = denoiser.model
    return torch.stack([model(*args, **{**kwargs, "return_dict": False})[0] for args, kwargs in calls])


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(("name", "rules"), [("dit", OPTIONS), ("sdxl", {"up_blocks": "kmeans-c-2", "down": "uaq-3"})])
def test_layers_are_fitted_again_in_place_and_taken_back_bit_for_bit(name: str, rules: dict[str, str]) -> None:
    denoiser, graph = made(name)
    calls = calls_of(denoiser, FEW.seed)
    full = outputs(denoiser, calls)
    Quantize(by="regex", rules=rules).run(graph, context(denoiser))
    before, plain, sizes = weights(graph), outputs(denoiser, calls), {}
    for layer in graph.weight_layers.values():
        sizes[layer.name] = sum(part.fitted.bits_held for part in parts_of(layer.module) if part.fitted)
    change = FEW.run(graph, context(denoiser))
    after, fitted = weights(graph), outputs(denoiser, calls)
    assert (fitted - full).square().sum() < 0.9 * (plain - full).square().sum()
    kept = {each for each in before if torch.equal(before[each], after[each])}
    assert not set(change.changed) & kept
    assert {each for each in before if parts_of(graph.weight_layers[each].module)[0].option.is_none} <= kept
    for layer in graph.weight_layers.values():
        parts = [part for part in parts_of(layer.module) if part.fitted]
        assert sum(part.fitted.bits_held for part in parts if part.fitted) == sizes[layer.name]
        if parts:
            held: Any = layer.module
            assert torch.equal(pack_layer(held).weight, held.weight)
    for each in change.data["layers"].values():  # type: ignore[attr-defined]
        assert each["after"] <= each["before"]
    FEW.undo(graph, context(denoiser))
    assert is_same(before, weights(graph))
    assert not any(
        isinstance(part.fitted, Refitted) for layer in graph.weight_layers.values() for part in parts_of(layer.module)
    )


def test_on_images_of_another_seed_what_the_denoiser_puts_out_is_nearer_to_full_precision(
    digits: Denoiser, graph: Graph
) -> None:
    calls = calls_of(digits, 3)
    full, errors = outputs(digits, calls), []
    Quantize(by="regex", rules={r"blocks\.[12]\.attn1": "kmeans-c-2"}).run(graph, context(digits))
    errors.append((outputs(digits, calls) - full).square().sum())
    replace(FEW, images=12, steps=4, rows=2000, batch=6).run(graph, context(digits))
    errors.append((outputs(digits, calls) - full).square().sum())
    assert errors[1] < 0.5 * errors[0]


def test_the_same_settings_give_the_same_weights_and_other_images_others() -> None:
    denoiser, graph = made("dit", **OPTIONS)
    found = []
    for step in (FEW, FEW, replace(FEW, seed=4), replace(FEW, sequential=False)):
        step.run(graph, context(denoiser))
        found.append(weights(graph))
        step.undo(graph, context(denoiser))
    assert is_same(found[0], found[1])
    assert not is_same(found[0], found[2])
    assert not is_same(found[0], found[3])


def test_less_memory_means_fewer_calls_and_says_so() -> None:
    denoiser, graph = made("dit", to_="uaq-3")
    assert "from 6 of 6 denoising steps' calls" in FEW.run(graph, context(denoiser)).summary
    FEW.undo(graph, context(denoiser))
    little = replace(FEW, memory=0.0)
    assert "from 1 of 6 denoising steps' calls" in little.run(graph, context(denoiser)).summary


def test_activation_quantization_is_left_aside_and_put_back() -> None:
    denoiser, graph = made("dit", to_="uaq-3")
    FEW.run(graph, context(denoiser))
    expected = weights(graph)
    FEW.undo(graph, context(denoiser))
    QuantizeActivations(bits=4).run(graph, context(denoiser))
    rewrites = dict(graph.rewrites)
    with graph.installed():
        FEW.run(graph, context(denoiser))
    assert graph.rewrites == rewrites
    assert is_same(expected, weights(graph))


def test_in_a_search_every_recipe_is_fitted_from_its_own_options() -> None:
    denoiser, graph = made("dit")
    ctx, names = context(denoiser), [name for name in graph.choices if "to_" in name]
    alone = PassManager([("calibrate", FEW)], ctx)
    switch = Switch(graph, ctx, alone)
    first, second = ({name: Option.parse(option) for name in names} for option in ("uaq-3", "kmeans-c-2"))
    found = []
    for plan in (first, second, first):
        switch(plan)
        found.append(weights(graph))
    assert is_same(found[0], found[2])
    assert not is_same(found[0], found[1])


def test_what_cannot_be_is_said() -> None:
    denoiser, graph = made("dit")
    with pytest.raises(ConfigError, match="calibrate: requires the transform 'quantize', which has to stand before it"):
        q2.run_passes(graph, [FEW], denoiser=denoiser)
    with pytest.raises(PassError, match="'calibrate' failed: no layer is quantized"):
        q2.run_passes(graph, [Quantize(), FEW], denoiser=denoiser)
    with pytest.raises(ConfigError, match=r"seed: 20000 is the run's too"):
        FEW.check(graph, replace(context(denoiser), seed=20_000))
    bad: Any
    for key, bad in (("images", 0), ("rows", 0), ("batch", 0), ("memory", -1.0), ("steps", -1)):
        with pytest.raises(ConfigError, match=rf"{key}: expected at least \d, not {bad}"):
            replace(FEW, **{key: bad}).check(graph, context(denoiser))
    with pytest.raises(Q2Error, match="needs a denoiser"):
        FEW.run(graph, PassContext())
