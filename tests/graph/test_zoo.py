"""Any denoiser of diffusers: traced at a tiny size it equals eager, or it is refused with one clear line."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from q2.errors import TraceError
from q2.graph import trace
from tests.graph import zoo

REFUSED = {
    "WanAnimate2Transformer3DModel": "input 'kv_cache' is a WanAnimate2KVCache, an object that no graph can hold"
}
DOCS = Path(__file__).parents[2] / "docs" / "denoisers.md"

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.mark.parametrize("name", sorted(zoo.ZOO))
def test_a_denoiser_traces_and_equals_eager_at_two_batch_sizes(name: str) -> None:
    result = zoo.run(name)
    if name in REFUSED:
        assert result.failure == f"trace {name}: {REFUSED[name]}"
        return
    assert not result.failure
    assert result.layers > 10
    assert result.unit_layers == result.layers
    assert result.variants <= 2
    assert result.largest > 0.1


def test_the_zoo_has_every_class_and_the_table_names_it() -> None:
    assert set(zoo.exported()) == set(zoo.ZOO) | set(zoo.LEFT_OUT)
    text = DOCS.read_text("utf-8")
    assert [name for name in zoo.exported() if f"`{name}`" not in text] == []


def test_layers_of_experts_are_listed_and_can_be_replaced() -> None:
    name = "HiDreamImageTransformer2DModel"
    model = zoo.build(name)
    graph = trace(model, zoo.inputs(name, model, 2))
    linear = {path for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert linear <= set(graph.weight_layers)
    experts = [
        layer for path, layer in graph.weight_layers.items() if path.startswith("double") and ".experts." in path
    ]
    tokens, activated, mixtures = 2 * 16, 2, 2 / 4
    assert {layer.macs for layer in experts} == {int(tokens * activated * mixtures / 2) * experts[0].weights}
    path = experts[0].name
    graph.replace(path, nn.Sequential(model.get_submodule(path)))
    graph.verify()
    assert path in graph.weight_layers


def test_experts_without_data_are_traced_too() -> None:
    name = "HiDreamImageTransformer2DModel"
    real, empty = zoo.build(name), zoo.build(name, "meta")
    example = zoo.inputs(name, real, 2)
    layers = trace(real, example).weight_layers
    found = trace(empty, {key: value.to("meta") for key, value in example.items()}).weight_layers
    assert {path: layer.macs for path, layer in found.items()} == {path: layer.macs for path, layer in layers.items()}


class Casts(nn.Module):
    """Computes a part of its forward in another precision; raises or decides inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            y = self.first(x)
            if x.sum() > 0:
                y = y * 2
            with torch.autocast(x.device.type, enabled=False):
                y = y.float() @ y.float().T
        return self.second(x) + y.mean()  # type: ignore[no-any-return]


def test_autocast_inside_a_forward_is_part_of_the_graph() -> None:
    graph = trace(Casts(), {"x": torch.ones(3, 4)})
    graph.verify()
    graph.verify({"x": torch.ones(5, 4)})
    assert graph.variants == 1
    graph.verify({"x": -torch.ones(5, 4)})
    assert graph.variants == 2
    assert not torch.is_autocast_enabled("cpu")
    assert graph(torch.ones(2, 4)).dtype == torch.float32


class Numbers(nn.Module):
    """Calls functions of torch whose first tensor may be a number."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = torch.where(x > 0, x, 0.0) + torch.where(x > 0, 1.0, x)
        return torch.pow(kept, 2.0) + torch.remainder(x, 3.0) + torch.pow(2.0, x)


def test_a_number_where_a_tensor_may_stand_is_traced() -> None:
    graph = trace(Numbers(), {"x": torch.linspace(-2, 2, 6)})
    graph.verify({"x": torch.linspace(-3, 3, 9)})
    assert graph.variants == 1


class Cache:
    """An object that a forward could write into."""


def test_an_object_among_the_inputs_is_refused_by_name() -> None:
    example: dict[str, Any] = {"hidden_states": torch.zeros(1), "timestep": torch.zeros(1)}
    model = zoo.build("DiTTransformer2DModel")
    with pytest.raises(TraceError, match=r"input 'cross_attention_kwargs_cache' is a Cache, an object") as caught:
        trace(model, {**example, "cross_attention_kwargs": {"cache": Cache()}})
    assert "\n" not in str(caught.value)
