"""Sums over layers equal what the passes say of the same recipe."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import q2
from q2.denoisers import Denoiser
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.saving.save import save_packed
from q2.errors import ConfigError
from q2.graph import Graph
from q2.passes import PassContext
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.size import Size
from q2.passes.transform.apply import apply_options
from q2.plugins import Plugins
from q2.quant import Option
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint, check
from q2.search.space import Space
from q2.session.bank import bank_in, fit_bank

OPTIONS = ("kmeans-c-4", "uaq-4", "uaq-3")
Made = tuple[Denoiser, Graph, PassContext, Costs]


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank") / "bank"
    shapes = q2.denoiser("digits-dit", weights="meta")
    outline = q2.trace(shapes.model, shapes.example_inputs())
    fit_bank(q2.denoiser("digits-dit"), outline, folder, options=OPTIONS, plugins=Plugins())
    return folder


@pytest.fixture
def made(bank: Path, digits: Denoiser, graph: Graph) -> Callable[..., Made]:
    def make(layers: dict[str, tuple[str, ...]] | None = None) -> Made:
        space = Space.of_graph(graph, OPTIONS).limited(layers or {})
        found = bank_in(bank, graph, digits, plugins=Plugins())
        ctx = PassContext(Plugins(), digits, bank=found)
        return digits, graph, ctx, Costs.of_graph(graph, space, ctx, found)

    return make


def test_every_sum_is_what_the_passes_say(made: Callable[..., Made]) -> None:
    _, graph, ctx, costs = made({"^proj_out_2": ("none",), "ff": ("uaq-4", "none")})
    recipe = costs.space.draw(1, 0)
    found = costs.metrics(recipe)
    changed = apply_options(graph, {name: Option.parse(text) for name, text in recipe.items()}, ctx)
    size = Size().run(graph, ctx).data
    assert found["avg_bits"] == pytest.approx(size["avg_bits"], rel=1e-12)
    assert found["quantized_size"] == size["bytes"]
    assert found["bops"] == pytest.approx(Bops().run(graph, ctx).data["tbops"], rel=1e-12)
    assert found["quantized_error"] == pytest.approx(sum(e.quantized_error or 0 for e in changed.values()), rel=1e-9)
    assert found["model_size"] > found["quantized_size"]


def test_the_extent_bounds_every_recipe(made: Callable[..., Made]) -> None:
    *_, costs = made()
    low, high = costs.extent("avg_bits")
    drawn = np.array([costs.space.encode(costs.space.draw(0, number)) for number in range(50)])
    values = costs.value("avg_bits", drawn)
    assert values.shape == (50,)
    assert low < values.min() < values.max() < high
    assert values[7] == pytest.approx(costs.metrics(costs.space.draw(0, 7))["avg_bits"])


def test_constraints_hold_or_say_what_would(made: Callable[..., Made]) -> None:
    *_, costs = made()
    low, _ = costs.extent("avg_bits")
    names = list(costs.tables)
    bound = Constraint.parse("avg_bits <= 3.7", names)
    check([bound], costs)
    recipe = costs.space.draw(0, 0)
    assert bound.holds(costs, costs.space.encode(recipe)) == (costs.metrics(recipe)["avg_bits"] <= 3.7)
    with pytest.raises(ConfigError, match=f"'avg_bits <= 2': no recipe satisfies it, the least is {low:.4g}"):
        check([Constraint.parse("avg_bits <= 2", names)], costs)
    with pytest.raises(ConfigError, match="contradict each other"):
        check([bound, Constraint.parse("avg_bits >= 3.8", names)], costs)


@pytest.mark.parametrize("text", ["avg_bits < 3", "avg_bits <= many", "avg_bits <=", "<= 3", "avg_bits <= nan"])
def test_a_malformed_constraint_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a metric, <= or >=, and a number"):
        Constraint.parse(text, ["avg_bits"])


def test_an_option_that_the_bank_lacks_is_one_line(bank: Path, digits: Denoiser, graph: Graph) -> None:
    found = bank_in(bank, graph, digits, plugins=Plugins())
    ctx = PassContext(Plugins(), digits, bank=found)
    with pytest.raises(ConfigError, match="does not hold uaq-2; it has kmeans-c-4, uaq-4, uaq-3"):
        Costs.of_graph(graph, Space.of_graph(graph, ["uaq-2"]), ctx, found)


def test_layers_limit_the_options_of_what_they_find() -> None:
    space = Space.of({"a.q": 4, "a.k": 4, "b": 8}, OPTIONS, ties=[("a.q", "a.k")])
    limited = space.limited({"k$": ("none",), "a": ("uaq-3",)})
    assert [choice.options for choice in limited.choices] == [("none",), OPTIONS]
    assert limited.options == ("none", *OPTIONS)
    assert limited.columns.tolist() == [[0, -1, -1], [1, 2, 3]]
    assert limited.places([0, 2]).tolist() == [0, 3]
    with pytest.raises(ConfigError, match=r'layers\."c": finds no layer of the search space'):
        space.limited({"c": ("none",)})
    with pytest.raises(ConfigError, match=r'layers\."\(": no regular expression'):
        space.limited({"(": ("none",)})


@pytest.mark.parametrize("name", ["digits-dit", "digits-sdxl"])
def test_the_model_size_is_that_of_the_tensors_in_the_file(name: str, tmp_path: Path) -> None:
    denoiser = q2.denoiser(name)
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    ctx = PassContext(Plugins(), denoiser)
    space = Space.of_graph(graph, ["none", "uaq-3", "kmeans-a-2"]).limited({"proj": ("none",)})
    costs = Costs.of_graph(graph, space, ctx, None)
    narrow = Costs.of_graph(graph, space.limited({"^(?!.*to_)": ("none",)}), ctx, None)
    drawn = [space.draw(3, number) for number in (0, 1)]
    for recipe in (*drawn, dict.fromkeys(space.layers, "none")):
        apply_options(graph, {layer: Option.parse(text) for layer, text in recipe.items()}, ctx)
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        save_packed(denoiser, folder)
        component = "unet" if name == "digits-sdxl" else "transformer"
        stored = StoredWeights((folder / component).glob("*.safetensors"))
        held = sum(tensor.nbytes for tensor in stored.values())
        assert costs.metrics(recipe)["model_size"] == held
    assert narrow.metrics(dict.fromkeys(space.layers, "none"))["model_size"] == held
