import pytest
from hypothesis import given
from hypothesis import strategies as st

from q2.errors import OptionError
from q2.quant import Option

NAMES = ["uaq", "kmeans-c", "kmeans-a", "none"]


@given(st.sampled_from(["uaq", "kmeans-c", "kmeans-a", "my_own.2-x"]), st.integers(1, 8))
def test_an_option_reads_back_from_its_text(quantizer: str, bits: int) -> None:
    option = Option(quantizer, bits)
    assert Option.parse(str(option)) == option
    assert str(option) == f"{quantizer}-{bits}"


@pytest.mark.parametrize("text", ["none", "None", "NONE", "NA", "na", "nA"])
def test_none_and_na_in_any_case_leave_a_weight_alone(text: str) -> None:
    option = Option.parse(text, NAMES)
    assert option.is_none
    assert str(option) == "none"
    assert option.bits == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("uaq-17", "width 17 of 'uaq-17' is outside 1 to 8"),
        ("uaq-0", "width 0 of 'uaq-0' is outside 1 to 8"),
        ("kmeans-c-9", "width 9 of 'kmeans-c-9' is outside 1 to 8"),
        ("kmean-c-4", "no quantizer named 'kmean-c' in 'kmean-c-4'; did you mean 'kmeans-c'?"),
        ("zebra-4", "no quantizer named 'zebra' in 'zebra-4' (there are: uaq, kmeans-c, kmeans-a, none)"),
        ("none-4", "'none' takes no width, found 'none-4'"),
        ("uaq", "'uaq' is no option, expected a quantizer and a width such as 'kmeans-c-4', or 'none'"),
        ("4", "'4' is no option, expected a quantizer and a width such as 'kmeans-c-4', or 'none'"),
        ("uaq-٤", "'uaq-٤' is no option, expected a quantizer and a width such as 'kmeans-c-4', or 'none'"),
        ("", "'' is no option, expected a quantizer and a width such as 'kmeans-c-4', or 'none'"),
    ],
)
def test_an_option_that_is_wrong_says_how(text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        Option.parse(text, NAMES)
    assert str(error.value) == message


def test_options_sort_by_quantizer_then_width() -> None:
    texts = ["uaq-4", "kmeans-c-4", "kmeans-c-3", "none"]
    assert [str(option) for option in sorted(map(Option.parse, texts))] == ["kmeans-c-3", "kmeans-c-4", "none", "uaq-4"]
