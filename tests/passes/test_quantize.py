"""The quantize pass: who is matched, what changes, and above all what does not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

import q2
from q2.config import Key
from q2.denoisers import Denoiser
from q2.errors import ConfigError, OptionError, Q2Error
from q2.graph import Graph
from q2.passes import Change, PassContext, TransformPass
from q2.passes.analysis.bops import Bops
from q2.passes.analysis.size import SIZES, Size
from q2.passes.transform.quantize import Quantize
from q2.quant import Recipe, fit, parts_of

from .toys import one_of_each


def where(key: Key) -> str:
    return "run.toml: " + ".".join(key)


def quantize(**table: Any) -> Quantize:
    return Quantize.from_table(table, where)


def options(graph: Graph) -> dict[str, str]:
    return {name: str(parts_of(layer.module)[0].option) for name, layer in graph.weight_layers.items()}


def mase(name: str, width: int | None = None) -> dict[str, Any]:
    return {"config": {"name": name} | ({"weight_width": width} if width else {})}


@pytest.mark.parametrize(("kind", "layers"), [("linear", {"head", "tail"}), ("conv2d", {"image"}), ("conv1d", {"row"})])
@pytest.mark.parametrize("option", ["uaq-3", "kmeans-c-2", "kmeans-a-4"])
def test_only_layers_of_the_type_change_and_biases_and_norms_stay_bit_for_bit(
    kind: str, layers: set[str], option: str
) -> None:
    graph = one_of_each()
    before = {name: tensor.clone() for name, tensor in graph.model.state_dict().items()}
    change = q2.run_passes(graph, [quantize(**{kind: option})])[0].report
    after = graph.model.state_dict()
    assert list(after) == list(before)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"{layer}.weight" for layer in layers}
    assert set(change.changed) == layers  # type: ignore[attr-defined]
    sample = torch.randn(2, 2, 4, 4)
    assert torch.equal(graph(sample), graph.model(sample))


def test_the_mase_form_and_the_short_form_mean_the_same() -> None:
    long = quantize(by="type", default=mase("none"), linear=mase("kmeans-c", 4))
    short = quantize(by="type", default="NA", linear="kmeans-c-4")
    ctx, graph = PassContext(), one_of_each()
    assert long.plan(graph, ctx) == short.plan(graph, ctx)
    assert Quantize.from_table(long.to_table(), where) == long


def test_the_first_regex_that_matches_wins() -> None:
    graph = one_of_each()
    q2.run_passes(graph, [quantize(by="regex", default="uaq-8", **{"^head$": "uaq-2", "a": "uaq-5"})])
    assert options(graph) == {"image": "uaq-5", "row": "uaq-8", "head": "uaq-2", "tail": "uaq-5"}


def test_by_name_takes_whole_names() -> None:
    graph = one_of_each()
    q2.run_passes(graph, [quantize(by="name", tail="kmeans-a-3")])
    assert options(graph) == {"image": "none", "row": "none", "head": "none", "tail": "kmeans-a-3"}


def test_a_recipe_is_applied_as_saved(tmp_path: Path) -> None:
    graph = one_of_each()
    Recipe.of({"head": "uaq-3", "row": "none"}, "toy", "", 3.0).save(tmp_path / "r.toml")
    q2.run_passes(graph, [quantize(by="recipe", recipe=str(tmp_path / "r.toml"))])
    assert options(graph) == {"image": "none", "row": "none", "head": "uaq-3", "tail": "none"}


def test_predicted_sizes_are_what_the_layers_hold() -> None:
    graph = one_of_each()
    rules = {"^image": "kmeans-c-3", "^row": "uaq-5", "^head": "kmeans-a-2"}
    q2.run_passes(graph, [quantize(by="regex", **rules), Size()])
    sizes = graph.facts.get(SIZES)
    for name in ("image", "row", "head"):
        (part,) = parts_of(graph.weight_layers[name].module)
        assert part.fitted is not None
        assert sizes[name].bits == part.fitted.bits_held
        values = graph.weight_layers[name].module.weight
        assert isinstance(values, torch.Tensor)
        assert torch.equal(values, part.fitted.restore(values))
    assert sizes["tail"].bits == 16 * graph.weight_layers["tail"].weights


def test_quantizing_twice_keeps_what_is_there() -> None:
    graph = one_of_each()
    first, again = (quantize(linear="uaq-4") for _ in range(2))
    q2.run_passes(graph, [first])
    layer, before = graph.weight_layers["head"].module, graph.weight_layers["head"].module.weight
    results = q2.run_passes(graph, [again])
    assert graph.weight_layers["head"].module is layer
    assert layer.weight is before
    assert results[0].report.changed == ()  # type: ignore[attr-defined]


def test_another_option_is_written_in_place_as_if_it_were_the_first() -> None:
    graph, other = one_of_each(), one_of_each()
    exact = {name: tensor.clone() for name, tensor in graph.model.state_dict().items()}
    q2.run_passes(graph, [quantize(linear="uaq-2", conv2d="kmeans-c-2")])
    held = graph.weight_layers["head"].module.weight
    changed = q2.run_passes(graph, [quantize(by="regex", head="kmeans-a-3", tail="uaq-2", image="none")])[0].report
    assert changed.changed == ("image", "head")  # type: ignore[attr-defined]
    assert graph.weight_layers["head"].module.weight is held
    q2.run_passes(other, [quantize(by="name", head="kmeans-a-3", tail="uaq-2")])
    after, fresh = graph.model.state_dict(), other.model.state_dict()
    assert all(torch.equal(after[name], fresh[name]) for name in after)
    assert torch.equal(after["image.weight"], exact["image.weight"])


def test_layers_without_weights_are_planned_with_the_sizes_that_they_will_have() -> None:
    graph = q2.trace(one_of_each().model.to("meta"), {"sample": torch.empty(1, 2, 4, 4, device="meta")})
    steps = [quantize(linear="uaq-4", conv1d="kmeans-c-3"), Size(), Bops()]
    planned, real = q2.run_passes(graph, steps), q2.run_passes(one_of_each(), steps)
    assert [result.report.data for result in planned[1:]] == [result.report.data for result in real[1:]]
    assert "planned: weights on meta have no values to fit" in planned[0].report.summary
    assert {row[-1] for row in planned[0].report.tables[0].rows} == {"–"}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"bye": 3}, ConfigError, "run.toml: bye: unknown key; did you mean 'by'?"),
        ({"by": "typ"}, ConfigError, "run.toml: by: should be 'type', 'name', 'regex' or 'recipe', not \"typ\""),
        ({"linear": "kmeans"}, ConfigError, "run.toml: linear: 'kmeans' is no option; expected a quantizer and a "
         "width, as in 'kmeans-c-4', or 'none'"),
        ({"linear": {"cfg": {}}}, ConfigError, "run.toml: linear.cfg: unknown key; did you mean 'config'?"),
        ({"linear": mase("uaq", 4) | {"x": 1}}, ConfigError, "run.toml: linear.x: unknown key"),
        ({"linear": {"config": {"name": "uaq", "weight_widht": 4}}}, ConfigError,
         "run.toml: linear.config.weight_widht: unknown key; did you mean 'weight_width'?"),
        ({"linear": "uaq-0"}, OptionError, "width 0 of 'uaq-0' is outside 1 to 8"),
        ({"linear": "uaq-17"}, OptionError, "width 17 of 'uaq-17' is outside 1 to 8"),
        ({"linear": mase("uaq")}, OptionError, "linear: 'uaq' needs weight_width, 1 to 8"),
        ({"linear": "kmean-c-4"}, OptionError, "linear: no quantizer named 'kmean-c'; did you mean 'kmeans-c'?"),
        ({"by": "regex", "attn(": "uaq-4"}, ConfigError, "'attn(' is no regular expression: missing ), unterminated "
         "subpattern at position 4"),
        ({"by": "regex", "haed": "uaq-4"}, ConfigError, "no layer matches 'haed'; did you mean 'head'?"),
        ({"by": "name", "tails": "uaq-4"}, ConfigError, "no layer is named 'tails'; did you mean 'tail'?"),
        ({"by": "recipe"}, ConfigError, "by = 'recipe' needs the key recipe = 'FILE' and no rules"),
        ({"recipe": "r.toml"}, ConfigError, "recipe is set, but by = 'type'; say by = 'recipe'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_changes(table: Any, error: type[Q2Error], message: str) -> None:
    with pytest.raises(error) as caught:
        quantize(**table).check(one_of_each(), PassContext())
    assert str(caught.value) == message


def test_a_recipe_for_another_denoiser_or_layer_is_refused(tmp_path: Path, graph: Graph, digits: q2.Denoiser) -> None:
    ctx = PassContext(denoiser=digits)
    Recipe.of({"head": "uaq-3"}, "sdxl", "", 3.0).save(tmp_path / "r.toml")
    step = quantize(by="recipe", recipe=str(tmp_path / "r.toml"))
    with pytest.raises(Q2Error, match="the recipe is for 'sdxl', not for 'digits-dit'"):
        step.check(graph, ctx)
    Recipe.of({"proj_out_3": "uaq-3"}, "digits-dit", "", 3.0).save(tmp_path / "r.toml")
    with pytest.raises(Q2Error, match=r"no such weight layer in 'digits-dit'; did you mean 'proj_out_2'\?"):
        step.check(graph, ctx)


@dataclass(frozen=True)
class Double(TransformPass):
    """Doubles a layer's weight."""

    name: ClassVar[str] = "double"
    layer: str = "proj_out_2"

    def run(self, graph: Graph, ctx: PassContext) -> Change:
        module = graph.model.get_submodule(self.layer)
        module.weight = nn.Parameter(2 * module.get_parameter("weight"))
        return Change("doubled", changed=(self.layer,))


def test_a_weight_that_a_transform_changed_is_not_read_from_the_checkpoint_again(
    digits: Denoiser, graph: Graph
) -> None:
    """A layer that is switched from option to option is quantized from the weight that the transform left."""
    doubled = 2 * graph.model.get_parameter("proj_out_2.weight").detach().clone()
    steps = [Double(), *(Quantize("name", rules={"proj_out_2": text}) for text in ("uaq-2", "uaq-8"))]
    q2.run_passes(graph, steps, denoiser=digits)
    assert torch.equal(graph.model.get_parameter("proj_out_2.weight"), fit(doubled, "uaq-8").dequantize())
    q2.run_passes(graph, [Quantize("name", rules={"proj_out_2": "none"})], denoiser=digits)
    assert torch.equal(graph.model.get_parameter("proj_out_2.weight"), doubled)
