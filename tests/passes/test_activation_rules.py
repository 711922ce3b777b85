"""The rules and options of the quantize-activations pass: how they match, and what is refused."""

from typing import Any

import pytest

import q2
from q2.errors import ConfigError
from q2.passes import PassContext
from q2.passes.transform.quantize_activations import QuantizeActivations
from tests.passes.activations import act, step

from .toys import one_of_each


def test_rules_are_by_type_name_or_regex_and_the_first_that_matches_wins() -> None:
    def bits(**table: Any) -> dict[str, int]:
        found = act(graph, **table).data["layers"]
        assert isinstance(found, dict)
        return found

    graph = one_of_each()
    assert bits(linear=6, conv2d="none") == {"image": 16, "row": 8, "head": 6, "tail": 6}
    assert bits(by="name", bits="none", tail=5) == {"image": 16, "row": 16, "head": 16, "tail": 5}
    assert bits(by="regex", **{"^head$": 4, "a": 7}) == {"image": 7, "row": 8, "head": 4, "tail": 7}


def test_options_are_written_as_they_are_read() -> None:
    table = {"bits": 6, "softmax": "none", "attention": False, "by": "regex", "attn1": 4}
    assert step(**table).to_table() == table
    assert step().to_table() == {"bits": 8, "softmax": 8, "attention": True, "by": "type"}


PLACE = "run.toml: passes.quantize-activations"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"bits": 3}, f"{PLACE}.bits: should be 4 to 8, or 'none', not 3"),
        ({"bits": "eight"}, f"{PLACE}.bits: should be 4 to 8, or 'none', not 'eight'"),
        ({"bits": True}, f"{PLACE}.bits: should be 4 to 8, or 'none', not True"),
        ({"softmax": 12}, f"{PLACE}.softmax: should be 4 to 8, or 'none', not 12"),
        ({"attention": 2}, f"{PLACE}.attention: should be 4 to 8, or 'none', not 2"),
        ({"linear": 9}, f"{PLACE}.linear: should be 4 to 8, or 'none', not 9"),
        ({"linear": 7.5}, f"{PLACE}.linear: unknown key"),
        ({"by": "typ"}, f"{PLACE}.by: should be 'type', 'name' or 'regex', not \"typ\""),
        ({"bit": 8}, "no layer has the type 'bit'; did you mean 'bits'?"),
        ({"lineal": 8}, "no layer has the type 'lineal'; did you mean 'linear'?"),
        ({"by": "name", "tails": 8}, "no layer is named 'tails'; did you mean 'tail'?"),
        (
            {"by": "regex", "attn(": 8},
            "'attn(' is no regular expression: missing ), unterminated subpattern at position 4",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_changes(table: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        step(**table).check(one_of_each(), PassContext())
    assert str(caught.value) == message


def test_bits_given_in_python_are_checked_too() -> None:
    with pytest.raises(ConfigError) as caught:
        q2.run_passes(one_of_each(), [QuantizeActivations(bits=3)])
    assert str(caught.value) == "passes.quantize-activations: bits: should be 4 to 8, or 'none', not 3"
