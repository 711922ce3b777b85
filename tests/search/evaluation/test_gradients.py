"""Noise by gradients, against the noise that is measured with one layer quantized, where the change is small."""

import numpy as np
import pytest
import torch

import q2
from q2.denoisers.pairs import sqnr
from q2.denoisers.recorded import outputs_of, record_calls
from q2.passes import PassContext
from q2.passes.base import weight_of
from q2.passes.transform.apply import apply_options
from q2.passes.transform.quantize import Quantize
from q2.quant import Option
from q2.search.evaluation.gradients import OutputGradients
from q2.search.space import Space

OPTIONS = ("uaq-8", "uaq-5", "none")


@pytest.mark.parametrize(("name", "passes"), [("dit", 48), ("sdxl", 24)])
def test_gradients_tell_the_noise_of_small_changes_of_single_layers(name: str, passes: int) -> None:
    denoiser = q2.denoiser(name, tiny=True)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    ctx = PassContext(denoiser=denoiser)
    space = Space.of_graph(graph, OPTIONS)
    calls, _ = record_calls(denoiser, graph, 2, seed=0, steps=2, batch=2)
    Quantize(by="regex", rules={"to_q": "uaq-3"}).run(graph, ctx)  # what is in place takes no part, and stays
    before = {layer: weight_of(each.module).clone() for layer, each in graph.weight_layers.items()}
    found = OutputGradients(denoiser, graph, ctx, space, lambda: calls)(passes, "full", 1.0)
    assert all(torch.equal(weight_of(graph.weight_layers[layer].module), each) for layer, each in before.items())
    assert not any(each.module.weight.requires_grad for each in graph.weight_layers.values())
    apply_options(graph, dict.fromkeys(graph.choices, Option.parse("none")), ctx)
    full = np.concatenate([np.asarray(call.output.double()) for call in calls])
    wanted = range(0, len(space), 1 + len(space) // 12)
    ratios = []
    for i in wanted:
        layers = dict.fromkeys(space.choices[i].layers, Option.parse("uaq-8"))
        apply_options(graph, layers, ctx)
        made = np.concatenate([np.asarray(outputs_of(denoiser, graph, call).double()) for call in calls])
        apply_options(graph, dict.fromkeys(layers, Option.parse("none")), ctx)
        ratios.append(found[i, 0] / (10 ** (-sqnr(made, full) / 10)).mean())
    spread = np.sqrt(2 / passes)  # the relative deviation of one; layers share the directions
    assert np.abs(np.log(ratios)).mean() < 2 * spread
    assert np.abs(np.log(ratios)).max() < 4 * spread
    assert (found[:, 2] == 0).all()
    assert (found[:, 1] > found[:, 0]).all()


def test_less_memory_gives_the_same_and_the_diagonal_is_something_else() -> None:
    denoiser = q2.denoiser("dit", tiny=True)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    space = Space.of_graph(graph, ("uaq-3", "none")).limited({"attn": ["none"]})
    calls, _ = record_calls(denoiser, graph, 1, seed=0, steps=2, batch=2)
    gradients = OutputGradients(denoiser, graph, PassContext(denoiser=denoiser), space, lambda: calls, seed=5)
    whole, pieces = gradients(6, "full", 1.0), gradients(6, "full", 0.0)
    np.testing.assert_allclose(whole, pieces, rtol=1e-5)
    fixed = [i for i, choice in enumerate(space.choices) if choice.options == ("none",)]
    assert fixed
    assert (whole[fixed] == 0).all()
    diagonal = gradients(6, "diagonal", 1.0)
    rest = [i for i in range(len(space)) if i not in fixed]
    assert (diagonal[rest, 0] > 0).all()
    assert not np.allclose(diagonal[rest], whole[rest], rtol=0.2)
