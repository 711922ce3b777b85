"""Number formats as options of a recipe: fitted, packed, kept in banks and saved folders like any other."""

import copy
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import q2
from q2.denoisers import load
from q2.denoisers.saving.save import save_packed
from q2.errors import OptionError, Q2Error
from q2.passes.analysis.size import Size
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins
from q2.quant import Option, Quantizer, builtin_quantizer, fit, quantize_layer
from q2.quant.bank import Bank
from q2.quant.check import check_quantizer
from q2.quant.formats import Format, Integer, MiniFloat
from q2.quant.formats.mx import mx_float, mx_integer
from q2.quant.kinds import QUANTIZERS
from q2.quant.packed.layers import pack_layer
from q2.quant.resolve import known_option
from tests.quant.test_bank import PLAN, WEIGHTS, make

TEXTS = (
    "integer-8.4", "integer-8", "integer-1.0", "integer-3.5", "integer-4.-2", "minifloat-8.e4m3", "minifloat-8.e5m2",
    "minifloat-8", "minifloat-3", "mxfp4", "mxfp6", "mxfp6.e3m2", "mxfp8", "mxfp8.e5m2", "mxint8", "mxint2",
)  # fmt: skip
FORMATS: dict[str, Format] = {
    "integer-8.4": Integer(8, 4),
    "minifloat-8.e4m3": MiniFloat(4, 3, specials="none"),
    "mxfp4": mx_float(2, 1),
    "mxfp6.e3m2": mx_float(3, 2),
    "mxfp8.e5m2": mx_float(5, 2),
    "mxint8": mx_integer(8),
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_option_reads_back_and_its_quantizer_is_found_by_name(text: str) -> None:
    catalogue = Plugins(entry_points=False).of(QUANTIZERS)
    option = known_option(text, catalogue)
    assert str(option) == text
    assert Option.parse(str(option)) == option
    quantizer = catalogue.load(option.quantizer)()
    assert quantizer.name == option.quantizer
    for again in (pickle.loads(pickle.dumps(quantizer)), copy.deepcopy(quantizer)):
        assert type(again) is type(quantizer)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("text", TEXTS)
def test_a_packed_layer_computes_what_the_simulated_one_does_at_the_size_that_was_said(
    text: str, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    for layer in (nn.Linear(100, 8).to(dtype), nn.Conv2d(5, 6, 3).to(dtype)):
        fitted = fit(layer.weight, text)
        assert fitted.bits == fitted.bits_held
        simulated = quantize_layer(layer, fitted)
        packed = pack_layer(simulated)
        assert torch.equal(packed.weight, simulated.weight)


@pytest.mark.parametrize("text", FORMATS)
def test_an_option_gives_exactly_the_formats_values(text: str) -> None:
    weight = torch.randn(8, 100, generator=torch.Generator().manual_seed(1))
    assert torch.equal(fit(weight, text).dequantize(), FORMATS[text].quantize(weight))


@pytest.mark.parametrize("name", ["integer", "integer.6", "minifloat", "minifloat.e3m4", "mxfp", "mxint"])
def test_a_format_keeps_to_what_is_asked_of_a_plugins_quantizer(name: str) -> None:
    kind: type[Quantizer] = type(builtin_quantizer(name))
    if "." in name:
        kind = type("Eight", (kind,), {"min_bits": 8})  # this form is of 8 bits
    if name == "mxfp":
        kind = type("Eight", (kind,), {"min_bits": 8})
    check_quantizer(kind, "the tests", name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("integer-8.40", "'integer' with '40' bits behind the point: expected -8 to 24"),
        ("integer-8.x", "'integer' with 'x' bits behind the point: expected -8 to 24"),
        ("minifloat-8.e4m4", "'minifloat' as 'e4m4': expected"),
        ("minifloat-8.e6m1", "'minifloat' as 'e6m1': expected an exponent of 1 to 5 bits"),
        ("mxfp5", "width 5 of 'mxfp' is none of 4, 6 and 8"),
        ("mxfp8.e2m5", "'mxfp' as 'e2m5': expected e2m1, e2m3, e3m2, e4m3 or e5m2"),
        ("mxfp6.e2m1", "width 6 of 'mxfp.e2m1': e2m1 with its sign takes 4 bits"),
        ("mxint8.4", "'mxint' takes no form, found '4'"),
        ("mxint1", "width 1 of 'mxint' is outside 2 to 8"),
        ("integer-9.4", "width 9 of 'integer-9.4'"),
    ],
)
def test_a_form_that_there_is_not_is_one_line(text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        known_option(text, Plugins(entry_points=False).of(QUANTIZERS))
    assert message in str(error.value)


def test_a_bank_holds_formats_as_any_other_option(tmp_path: Path) -> None:
    options = ("integer-8.6", "integer-4.3", "mxfp4", "minifloat-8.e4m3", "uaq-3")
    make(tmp_path, replace(PLAN, options=options))
    bank = Bank.open(tmp_path, builtin_quantizer)
    for option in options:
        fitted, fresh = bank.fitted("first", Option.parse(option)), fit(WEIGHTS["first"], option)
        assert fitted is not None
        assert fitted.errors == fresh.errors
        assert torch.equal(fitted.restore(WEIGHTS["first"]), fresh.dequantize())


def test_a_denoiser_is_quantized_by_formats_saved_and_loaded(tmp_path: Path) -> None:
    denoiser = load("dit", tiny=True, device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    rules = {"by": "regex", r"to_": "integer-8.4", r"ff": "mxfp4", "default": "minifloat-8.e4m3"}
    result = q2.run_passes(graph, [Quantize.from_table(rules, str), Size()], denoiser=denoiser)[-1]
    assert {row[0] for row in result.report.tables[0].rows} == {"integer-8.4", "mxfp4", "minifloat-8.e4m3"}
    save_packed(denoiser, tmp_path / "saved")
    again = load(checkpoint=str(tmp_path / "saved"), device="cpu")
    inputs = denoiser.example_inputs()
    with torch.no_grad():
        assert torch.equal(again.model(**inputs).sample, denoiser.model(**inputs).sample)


def test_formats_of_inputs_and_biases_are_not_lost_silently_when_a_pipeline_is_saved(tmp_path: Path) -> None:
    denoiser = load("dit", tiny=True, device="cpu")
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    config = {"name": "integer", "weight_width": 8, "bias_width": 8}
    q2.run_passes(graph, [Quantize.from_table({"by": "regex", "ff": {"config": config}}, str)], denoiser=denoiser)
    with pytest.raises(Q2Error, match="a folder keeps options of weights alone, such as 'integer-8.4'"):
        save_packed(denoiser, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
