"""Packed layers hold what `size` predicts and compute, bit by bit, what simulated layers do."""

import copy
import gc
import math
import pickle
import weakref
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from q2.errors import Q2Error
from q2.quant import Option, Part, fit, parts_of, quantize_layer, quantize_parts
from q2.quant.packed.layers import Packed, pack_layer, unpack_layer

OPTIONS = ("uaq-1", "uaq-3", "uaq-8", "kmeans-c-3", "kmeans-c-4", "kmeans-a-3", "kmeans-a-5")
LAYERS: tuple[tuple[nn.Module, tuple[int, ...]], ...] = (
    (nn.Linear(33, 21), (2, 33)),
    (nn.Linear(4099, 40, bias=False), (1, 4099)),
    (nn.Conv1d(6, 9, 3), (2, 6, 5)),
    (nn.Conv2d(8, 12, 3, groups=2), (1, 8, 6, 6)),
    (nn.Conv3d(3, 5, 2), (1, 3, 4, 4, 4)),
)


def simulated(layer: nn.Module, option: str, dtype: torch.dtype = torch.float32) -> Any:
    layer = copy.deepcopy(layer).to(dtype)
    assert isinstance(layer.weight, Tensor)
    return quantize_layer(layer, fit(layer.weight, option))


def split(dtype: torch.dtype = torch.float16) -> Any:
    """A convolution in two parts: one of 3 bits, one that stays as it is."""
    layer = nn.Conv2d(24, 10, 3).to(dtype).requires_grad_(False)
    first = fit(layer.weight[:, :16].contiguous(), "kmeans-c-3").without_weight()
    parts = [Part(first.option, first, (0, 16)), Part(Option.parse("none"), None, (16, 24))]
    return quantize_parts(layer, parts, layer.weight)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_packed_layer_computes_what_the_simulated_one_does(
    layer: nn.Module, shape: tuple[int, ...], option: str
) -> None:
    before = simulated(layer, option)
    packed = pack_layer(before)
    assert isinstance(packed, type(layer))
    assert isinstance(packed, Packed)
    assert type(packed).__name__ == f"Packed{type(layer).__name__}"
    assert torch.equal(packed.weight, before.weight)
    x = torch.randn(shape)
    assert torch.equal(packed(x), before(x))
    fitted = before.parts[0].fitted
    codes = -(-math.prod(fitted.shape) * fitted.option.bits // 8)
    assert packed.bytes == codes + fitted.quantizer.overhead_bits(fitted.shape, fitted.option.bits) // 8
    assert str(parts_of(packed)[0].option) == option
    packed.check()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("option", OPTIONS)
def test_the_weight_comes_back_in_every_dtype(dtype: torch.dtype, option: str) -> None:
    before = simulated(nn.Linear(130, 700), option, dtype)
    packed = pack_layer(before)
    assert packed.weight.dtype == dtype
    assert torch.equal(packed.weight, before.weight)


def test_a_split_layer_has_parts_of_its_own() -> None:
    before = split()
    packed = pack_layer(before)
    assert [str(part.option) for part in parts_of(packed)] == ["kmeans-c-3", "none"]
    assert set(packed.state_dict()) == {"bias", "codes_0", "codebook_0", "weight_1"}
    assert packed.bytes == 10 * 16 * 9 * 3 // 8 + 10 * 8 * 2 + 10 * 8 * 9 * 2
    x = torch.randn(1, 24, 5, 5, dtype=torch.float16)
    assert torch.equal(packed(x), before(x))


def test_copies_casts_and_pickles_keep_the_bytes() -> None:
    packed: Any = pack_layer(simulated(nn.Linear(40, 16), "uaq-4", torch.float16))
    copies: list[Any] = [copy.deepcopy(packed), pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed).float()]
    assert copies[-1].weight.dtype == torch.float32
    for each in copies:
        assert torch.equal(each.weight.half(), packed.weight)
        for name, tensor in packed.state_dict().items():
            assert name == "bias" or each.state_dict()[name].dtype == tensor.dtype


def test_what_is_kept_for_decoding_follows_the_tensors() -> None:
    """Casts, other codes, other parameters and a weight of its own: the next call computes with them."""
    first, second = (pack_layer(simulated(nn.Linear(40, 16), "kmeans-c-3")) for _ in range(2))
    x = torch.randn(2, 40)
    assert not torch.equal(first(x), second(x))
    first.load_state_dict(second.state_dict())
    assert torch.equal(first(x), second(x))
    first.codebook_0 = second.codebook_0 * 2
    assert torch.equal(first.weight, second.weight * 2)
    assert first.half().weight.dtype == torch.float16
    assert torch.equal(first.float().weight, second.weight * 2)
    assert torch.equal(unpack_layer(first).weight, second.weight * 2)
    assert set(vars(unpack_layer(first))) == set(vars(nn.Linear(40, 16)))
    cast(Packed, first).keep(torch.ones(16, 40))
    assert torch.equal(first(x), nn.functional.linear(x, torch.ones(16, 40), first.bias))


def test_what_is_kept_for_decoding_keeps_no_tensor_alive() -> None:
    packed: Any = pack_layer(simulated(nn.Linear(40, 16), "uaq-3"))
    packed(torch.randn(2, 40))
    held = [weakref.ref(tensor) for tensor in packed.held(0).values()]
    for name in packed.held(0):
        packed._buffers[f"{name}_0"] = packed._buffers[f"{name}_0"].clone()
    gc.collect()
    assert [ref() for ref in held] == [None] * 3


def test_it_compiles_without_a_break_in_the_graph() -> None:
    for before, shape in ((simulated(nn.Linear(64, 32), "kmeans-c-3"), (3, 64)), (split(torch.float32), (1, 24, 5, 5))):
        compiled: Any = torch.compile(pack_layer(before), backend="aot_eager", fullgraph=True)
        x = torch.randn(shape)
        assert torch.equal(compiled(x), before(x))


@pytest.mark.parametrize("option", ["uaq-4", "kmeans-c-3"])
def test_plain_layers_come_back(option: str) -> None:
    before = simulated(nn.Linear(24, 8), option)
    for quantized in (before, pack_layer(before)):
        plain = unpack_layer(quantized)
        assert type(plain) is nn.Linear
        assert list(plain.state_dict()) == ["weight", "bias"]
        assert torch.equal(plain.weight, before.weight)
        assert parts_of(plain)[0].option.is_none


def test_what_cannot_be_packed_says_why() -> None:
    with pytest.raises(Q2Error, match="Linear is not quantized, there is nothing to pack"):
        pack_layer(nn.Linear(2, 2))
    changed = simulated(nn.Linear(24, 8), "uaq-3")
    with torch.no_grad():
        changed.weight += 0.01
    with pytest.raises(Q2Error, match="the weight is not what uaq-3 made of it; quantize the layer again"):
        pack_layer(changed)


def test_damage_is_seen_by_its_size() -> None:
    packed: Any = pack_layer(simulated(nn.Linear(24, 8), "uaq-3"))
    packed._buffers["codes_0"] = packed.codes_0[1:]
    with pytest.raises(Q2Error, match=r"has 71 bytes of codes, expected 72 for uaq-3 of \(8, 24\)"):
        packed.check()
    packed = pack_layer(simulated(nn.Linear(24, 8), "uaq-3"))
    packed._buffers["scale_0"] = packed.scale_0[1:]
    with pytest.raises(Q2Error, match="has 15 values beside the codes, expected 16 for uaq-3"):
        packed.check()


@pytest.mark.gpu
@pytest.mark.parametrize("option", OPTIONS)
def test_a_gpu_decodes_the_same(option: str) -> None:
    before = simulated(nn.Linear(4096, 4100), option, torch.float16)
    assert torch.equal(pack_layer(before).cuda().weight.cpu(), before.weight)


@pytest.mark.gpu
@pytest.mark.parametrize("option", ["uaq-3", "kmeans-c-4"])
@pytest.mark.parametrize("rows", [1, 2, 9, 100, 3000])
def test_a_gpu_multiplies_by_the_same(option: str, rows: int) -> None:
    before = simulated(nn.Linear(1160, 520), option, torch.float16)
    packed: Any = pack_layer(before).cuda()
    x = torch.randn(2, rows, 1160, dtype=torch.float16)
    exact = nn.functional.linear(x.double(), before.weight.double(), before.bias.double())
    with torch.no_grad():
        assert (packed(x.cuda()).cpu().double() - exact).norm() < 1e-3 * exact.norm()


@pytest.mark.gpu
def test_gradients_and_casts_pass_a_layer_on_a_gpu() -> None:
    packed: Any = pack_layer(simulated(nn.Linear(64, 32), "kmeans-c-4")).cuda()
    x = torch.randn(3, 64, device="cuda", requires_grad=True)
    packed(x).sum().backward()
    torch.testing.assert_close(x.grad, packed.weight.sum(0).expand(3, -1))
    with torch.autocast("cuda", torch.float16):
        assert packed(x.detach()).dtype == torch.float16
    with torch.no_grad(), pytest.raises(RuntimeError, match="dtype"):
        packed(x.half())
