"""What a layer holds reads the same from a simulated layer and from a packed one."""

import pytest
import torch
from torch import nn

from q2.errors import Q2Error
from q2.quant import Option, Part, builtin_quantizer, fit, plan_layer, quantize_layer, quantize_parts, read_parts
from q2.quant.packed.layers import pack_layer
from tests.quant.strategies import noise


@pytest.mark.parametrize("option", ["uaq-3", "kmeans-c-2", "kmeans-a-4"])
def test_codes_and_parameters_decode_to_the_values(option: str) -> None:
    layer = nn.Conv2d(8, 4, 3)
    simulated = quantize_layer(layer, fit(layer.weight, option))
    both = [next(read_parts(each)) for each in (simulated, pack_layer(simulated))]
    for part in both:
        decoded = builtin_quantizer(part.option.quantizer).decode(part.codes, part.parameters)
        assert torch.equal(decoded.float(), simulated.weight)
        assert torch.equal(part.values, simulated.weight)
        assert part.codes.dtype == torch.uint8
        assert int(part.codes.max()) < 2**part.option.bits
    assert torch.equal(both[0].codes, both[1].codes)


def test_parts_of_a_split_layer_are_read_one_by_one() -> None:
    layer, exact = nn.Linear(12, 6), noise(6, 12)
    parts = [
        Part(Option.parse("uaq-4"), fit(exact[:, :8], "uaq-4").without_weight(), (0, 8)),
        Part(Option.parse("none"), None, (8, 12)),
    ]
    found = list(read_parts(pack_layer(quantize_parts(layer, parts, exact))))
    assert [(str(part.option), part.channels) for part in found] == [("uaq-4", (0, 8)), ("none", (8, 12))]
    assert found[0].codes.shape == (6, 8)
    assert torch.equal(found[1].values, exact[:, 8:])
    assert not found[1].parameters


def test_plain_layers_hold_nothing_and_planned_ones_say_so() -> None:
    assert list(read_parts(nn.Linear(2, 1))) == []
    planned = plan_layer(nn.Linear(2, 1, device="meta"), [Part(Option.parse("uaq-4"))])
    with pytest.raises(Q2Error, match="only planned"):
        next(read_parts(planned))
