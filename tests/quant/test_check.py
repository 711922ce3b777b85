"""A quantizer that a plugin brings is checked on tiny weights: what is wrong is one line with plugin and hook."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from q2.errors import OptionError, PluginError
from q2.plugins import Plugins
from q2.quant import Quantizer
from q2.quant.check import check_quantizer
from q2.quant.kinds import QUANTIZERS
from q2.quant.resolve import known_option


class Good(Quantizer):
    """Rounds to even steps, as far from zero as the channel goes."""

    name: ClassVar[str] = "good"
    min_bits: ClassVar[int] = 2
    max_bits: ClassVar[int] = 6
    per_channel: ClassVar[tuple[str, ...] | None] = ("scale",)

    def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
        scale = weight.float().flatten(1).abs().amax(1) / (2 ** (bits - 1) - 1)
        kind = torch.float16 if prec == 16 else torch.float32
        return {"scale": scale.clamp(min=1e-4).to(kind), "middle": torch.tensor([2 ** (bits - 1)], dtype=kind)}

    def encode(self, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        steps = (weight.float() / _scale(weight, parameters)).round() + parameters["middle"].float()
        return steps.clamp(0, 2**bits - 1).to(torch.uint8)

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        return (codes.float() - parameters["middle"].float()) * _scale(codes, parameters)

    def overhead_bits(self, shape: Sequence[int], bits: int, prec: int = 16) -> int:
        return prec * (shape[0] + 1)


def _scale(like: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    return parameters["scale"].float().view(-1, *(1,) * (like.ndim - 1))


def raising(*args: Any) -> None:
    raise ValueError("no\nlicence")


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"overhead_bits": lambda self, shape, bits, prec=16: 16 * shape[0]}, "stores 144 bits of parameters for a weight"),
    ({"max_bits": 9}, "has min_bits 2 and max_bits 9, expected whole numbers within 1 to 8"),
    ({"per_chanel": ("scale",)}, "has the unknown attribute 'per_chanel'; did you mean 'per_channel'?"),
    ({"arithmetic_bit": lambda self, bits: 16}, "has the unknown attribute 'arithmetic_bit'; did you mean 'arith"),
    ({"per_channel": ("scales",)}, "has per_channel 'scales' for a weight of shape (8, 6) at 2 bits, prec 16, which"),
    ({"per_channel": ["scale"]}, "has per_channel ['scale'], expected a tuple of names or None"),
    ({"per_channel": ()}, "fails for a weight of shape (8, 6) at 2 bits, prec 16, torch.float32: RuntimeError"),
    ({"code": "level"}, "has the code 'level', expected one of '', 'levels', 'codebook'"),
    (
        {"encode": lambda *args: Good.encode(*args) + 16},
        "encodes to the code",
    ),
    ({"encode": lambda self, weight, parameters, bits: weight.int()}, "encodes to (8, 6) torch.int32"),
    ({"decode": lambda self, codes, parameters: codes.float().flatten()}, "decodes to (48,) torch.float32"),
    ({"decode": lambda self, codes, parameters: codes.float() / 0}, "values that are NaN or infinite for a weight"),
    (
        {"decode": raising},
        "fails for a weight of shape (8, 6) at 2 bits, prec 16, torch.float32: ValueError: no licence",
    ),
    (
        {"restore": lambda self, weight, parameters, bits, out=None: weight},
        "restores to other values than decode makes",
    ),
    ({"restore": lambda self, weight, parameters, bits, out=None: weight.double()}, "restores to (8, 6) torch.float64"),
    ({"parameters": lambda self, weight, bits, prec: [weight]}, "has parameters of type list"),
    ({"parameters": lambda self, weight, bits, prec: {"codes": weight}}, "has a parameter called 'codes'"),
    ({"name": "other"}, "has the name 'other', and is offered as 'good'"),
    ({"name": None}, "lacks the attribute name"),
    ({"__init__": raising}, "cannot be made without arguments: ValueError: no licence"),
]


@pytest.mark.parametrize(("changes", "said"), FAULTS)
def test_a_fault_is_one_line_that_names_plugin_and_hook(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        check_quantizer(type("Mine", (Good,), changes), "mine.py", "good")
    text = str(caught.value)
    assert text.startswith("plugin 'mine.py', q2_quantizers: 'good' (Mine) ")
    assert said in text
    assert "\n" not in text


def test_codes_that_the_quantized_weight_does_not_have_are_noticed() -> None:
    def moved(self: Good, weight: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        return Good.encode(self, weight.float() * 0.7, parameters, bits)

    with pytest.raises(PluginError, match="gives the quantized weight codes that decode to something else"):
        check_quantizer(type("Mine", (Good,), {"encode": moved}), "mine.py")


def test_what_is_abstract_or_no_quantizer_is_one_line() -> None:
    class Half(Quantizer):
        name: ClassVar[str] = "half"

    with pytest.raises(
        PluginError, match=r"'half' \(Half\) lacks the methods decode, encode, overhead_bits, parameters$"
    ):
        check_quantizer(Half, "mine.py")
    with pytest.raises(PluginError, match=r"'half' \(Path\) is no subclass of q2.quant.Quantizer$"):
        check_quantizer(Path, "mine.py", "half")


def test_a_sound_quantizer_is_fitted_once_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    original: Callable[..., Any] = Good.parameters

    class Counted(Good):
        def parameters(self, weight: Tensor, bits: int, prec: int) -> Mapping[str, Tensor]:
            calls.append(bits)
            return original(self, weight, bits, prec)  # type: ignore[no-any-return]

    check_quantizer(Counted, "mine.py", "good")
    check_quantizer(Counted, "mine.py", "good")
    assert calls == [2, 2, 6, 6] * 3


PLUGIN = """
from q2.plugins import hookimpl
from tests.quant.test_check import Good

class Mine(Good):
    name = "mine"
    BODY

@hookimpl
def q2_quantizers():
    return {"mine": Mine}
"""


def test_an_option_of_a_plugin_is_checked_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN.replace("BODY", ""), encoding="utf-8")
    good = Plugins([str(tmp_path / "mine.py")]).of(QUANTIZERS)
    assert str(known_option("mine-4", good)) == "mine-4"
    with pytest.raises(OptionError, match="width 7 of 'mine' is outside 2 to 6"):
        known_option("mine-7", good)
    with pytest.raises(OptionError, match="no quantizer named 'mime' in 'mime-4'; did you mean 'mine'"):
        known_option("mime-4", good)
    (tmp_path / "mine.py").write_text(PLUGIN.replace("BODY", "perchannel = ()"), encoding="utf-8")
    with pytest.raises(PluginError, match="plugin 'mine.py', q2_quantizers: 'mine' .* unknown attribute 'perchannel'"):
        known_option("mine-4", Plugins([str(tmp_path / "mine.py")]).of(QUANTIZERS))
