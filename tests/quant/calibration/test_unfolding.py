"""The rows of a weight layer's input are those that its weight is multiplied by."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2.quant.calibration.unfolding import Unfolding

MODES = ("zeros", "reflect", "replicate", "circular")


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def by_hand(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """Return all patches (rows, channels * kernel) with torch's own pad and unfold."""
    sides = list(layer._reversed_padding_repeated_twice)
    mode = {"zeros": "constant"}.get(layer.padding_mode, layer.padding_mode)
    x = F.pad(x, sides, mode=mode)
    kernel, dilation, stride = tuple(layer.kernel_size), tuple(layer.dilation), tuple(layer.stride)
    if isinstance(layer, nn.Conv1d):
        x, kernel, dilation, stride = x[:, :, None], (1, *kernel), (1, *dilation), (1, *stride)
    found = F.unfold(x, kernel, dilation, 0, stride)
    return found.transpose(1, 2).reshape(-1, found.shape[1])


def all_rows(layer: nn.Module, x: Tensor) -> Tensor:
    unfolding = Unfolding.of(layer)
    return unfolding.take(x, torch.arange(unfolding.count(x)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": "same", "dilation": 2},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 3, "padding": 2, "stride": 2, "groups": 2},
        {"kernel_size": 1},
    ],
)
def test_patches_are_those_of_torch(mode: str, options: dict[str, int | str]) -> None:
    for kind, x in ((nn.Conv1d, noise(2, 4, 11)), (nn.Conv2d, noise(2, 4, 7, 6))):
        layer = kind(4, 6, **options, padding_mode=mode)  # type: ignore[arg-type]
        assert torch.equal(all_rows(layer, x), by_hand(layer, x))


def test_unequal_sides_kernels_and_strides_come_dimension_by_dimension() -> None:
    layer = nn.Conv2d(3, 5, (2, 3), stride=(3, 1), padding=(0, 2), dilation=(1, 2))
    x = noise(2, 3, 9, 8)
    assert torch.equal(all_rows(layer, x), by_hand(layer, x))
    strided = x.to(memory_format=torch.channels_last)
    assert torch.equal(all_rows(layer, strided), by_hand(layer, x))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_rows_times_weight_are_the_output(kind: type[nn.Conv3d], groups: int, mode: str) -> None:
    dims = (nn.Conv1d, nn.Conv2d, nn.Conv3d).index(kind) + 1
    layer = kind(4, 6, 3, stride=2, padding=2, dilation=1, groups=groups, padding_mode=mode)  # type: ignore[arg-type]
    x = noise(2, 4, *(5, 6, 7)[:dims])
    rows, out = all_rows(layer, x), layer(x)
    halves = rows.chunk(groups, 1)
    weights = layer.weight.flatten(1).chunk(groups)
    found = torch.cat([part @ weight.T for part, weight in zip(halves, weights, strict=True)], 1)
    assert layer.bias is not None
    expected = (out.movedim(1, -1) - layer.bias).reshape(-1, 6)
    assert len(found) == math.prod(expected.shape[:-1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_some_rows_are_the_same_rows() -> None:
    layer, x = nn.Conv2d(3, 4, 3, padding=1), noise(3, 3, 5, 5)
    chosen = torch.tensor([74, 3, 50, 3])
    assert torch.equal(Unfolding.of(layer).take(x, chosen), all_rows(layer, x)[chosen])


def test_a_linear_has_its_last_dimension_and_an_image_alone_is_a_batch_of_one() -> None:
    x = noise(2, 3, 5, 8)
    assert torch.equal(all_rows(nn.Linear(8, 2), x), x.reshape(-1, 8))
    assert Unfolding.of(nn.Linear(8, 2)).count(x[:0]) == 0
    assert all_rows(nn.Linear(8, 2), x[:0]).shape == (0, 8)
    assert all_rows(nn.Linear(8, 2), x[0, 0, 0]).shape == (1, 8)
    layer, image = nn.Conv2d(3, 4, 3, padding=1), noise(3, 6, 5)
    assert torch.equal(all_rows(layer, image), all_rows(layer, image[None]))


def test_layers_that_read_alike_are_equal() -> None:
    assert Unfolding.of(nn.Conv2d(4, 8, 3, padding=1)) == Unfolding.of(nn.Conv2d(4, 2, 3, padding="same"))
    assert Unfolding.of(nn.Conv2d(4, 8, 3, padding=1)) != Unfolding.of(nn.Conv2d(4, 8, 3, padding=1, stride=2))
    assert Unfolding.of(nn.Conv2d(4, 8, 3, groups=4)).length == 36
