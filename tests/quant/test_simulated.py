"""Simulated layers are the layers they stand for, but for the weight."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from q2.errors import Q2Error
from q2.quant import fit, parts_of, quantize_layer
from tests.quant.strategies import noise


class OwnLinear(nn.Linear):
    """A subclass, as diffusers and transformers have them."""


LAYERS = [
    (lambda: nn.Linear(6, 4), (3, 6)),
    (lambda: nn.Linear(6, 4, bias=False), (3, 6)),
    (lambda: OwnLinear(6, 4), (3, 6)),
    (lambda: nn.Conv1d(4, 6, 3, padding=1), (2, 4, 9)),
    (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, padding_mode="circular"), (2, 4, 9, 9)),
    (lambda: nn.Conv2d(4, 8, (3, 1), groups=4, bias=False), (2, 4, 9, 9)),
    (lambda: nn.Conv3d(2, 4, 2, groups=2), (1, 2, 3, 3, 3)),
]


@pytest.fixture(params=LAYERS, ids=lambda layer: repr(layer[0]()))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    make, shape = request.param
    return make(), noise(*shape)


def test_only_the_weight_differs(case: tuple[nn.Module, Tensor]) -> None:
    layer, inputs = case
    kind, state = type(layer), dict(vars(layer))
    assert isinstance(layer.weight, Tensor)
    fitted = fit(layer.weight, "kmeans-c-2")
    quantized = quantize_layer(layer.eval(), fitted)
    assert isinstance(quantized, kind)
    assert isinstance(quantized.weight, nn.Parameter)
    assert torch.equal(quantized.weight, fitted.dequantize())
    assert not torch.equal(quantized.weight, layer.weight)
    assert quantized.bias is layer.bias
    assert quantized.training is layer.training is False
    assert list(quantized.state_dict()) == list(layer.state_dict())
    assert [str(part.option) for part in parts_of(quantized)] == ["kmeans-c-2"]
    assert [str(part.option) for part in parts_of(layer)] == ["none"]
    own = {key: value for key, value in state.items() if key[0] != "_" and key != "training"}
    assert {key: getattr(quantized, key) for key in own} == own
    plain = copy.deepcopy(layer)
    plain.load_state_dict(quantized.state_dict())
    assert torch.equal(quantized(inputs), plain(inputs))
    assert repr(quantized) == f"Simulated{repr(layer)[:-1]}, option=kmeans-c-2)"


def test_copies_and_pickles_keep_weight_class_and_fit(case: tuple[nn.Module, Tensor]) -> None:
    layer, inputs = case
    assert isinstance(layer.weight, Tensor)
    quantized = quantize_layer(layer, fit(layer.weight, "uaq-3"))
    for twin in (copy.deepcopy(quantized), pickle.loads(pickle.dumps(quantized))):
        assert isinstance(twin, type(layer))
        assert twin is not quantized
        assert torch.equal(twin(inputs), quantized(inputs))
        assert twin.weight is not quantized.weight
        (part,) = parts_of(twin)
        assert part.fitted is not None
        assert isinstance(quantized.weight, Tensor)
        assert torch.equal(part.fitted.restore(layer.weight.detach()), quantized.weight)
        assert torch.equal(part.fitted.restore(quantized.weight.detach()), quantized.weight)


def test_hooks_stay_and_later_ones_are_the_new_layers_own() -> None:
    layer, calls = nn.Linear(6, 4), list[str]()
    layer.register_forward_hook(lambda *_: calls.append("before"))
    quantized = quantize_layer(layer, fit(layer.weight, "uaq-4"))
    quantized.register_forward_hook(lambda *_: calls.append("after"))
    quantized(noise(1, 6))
    layer(noise(1, 6))
    assert calls == ["before", "after", "before"]


def test_a_quantized_layer_can_be_quantized_anew() -> None:
    layer = nn.Linear(6, 4).half().requires_grad_(False)
    once = quantize_layer(layer, fit(layer.weight, "uaq-4"))
    twice = quantize_layer(once, fit(layer.weight, "kmeans-a-3", prec=32))
    assert type(twice) is type(once)
    assert [str(part.option) for part in parts_of(twice)] == ["kmeans-a-3"]
    assert [str(part.option) for part in parts_of(layer)] == ["none"]
    assert (twice.weight.dtype, twice.weight.requires_grad) == (torch.float16, False)


def test_layers_that_cannot_be_quantized_say_why() -> None:
    layer = nn.Linear(6, 4)
    fitted = fit(layer.weight, "uaq-4")
    with pytest.raises(Q2Error, match=r"^Linear has no weights \(device meta\)$"):
        quantize_layer(nn.Linear(6, 4, device="meta"), fitted)
    with pytest.raises(Q2Error, match=r"^Linear has a weight of shape \(3, 6\), fitted is \(4, 6\)$"):
        quantize_layer(nn.Linear(6, 3), fitted)
    with pytest.raises(Q2Error, match=r"^ReLU has no weight parameter of its own$"):
        quantize_layer(nn.ReLU(), fitted)
    with pytest.raises(Q2Error, match=r"has no weight parameter of its own$"):
        quantize_layer(parametrizations.weight_norm(nn.Linear(6, 4)), fitted)
    layer.forward = layer.forward  # type: ignore[method-assign]
    with pytest.raises(Q2Error, match=r"^Linear has a replaced forward "):
        quantize_layer(layer, fitted)
