"""Targets: read as written, equal to Python and NumPy, and one line for everything that is wrong."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.errors import TargetError
from q2.search.objective.expression import Name, Node, Number, Operation
from q2.search.objective.grammar import parse
from q2.search.objective.target import Target

METRICS = ["FID", "FID-GT-1k", "FID-FP-1k", "judge-fid", "avg_bits", "bops", "a", "b", "a-b", "3d-kid", "log"]
TRIAL = {
    "FID": 8.0,
    "FID-GT-1k": 90.0,
    "FID-FP-1k": 4.0,
    "judge-fid": 2.5,
    "avg_bits": 3.5,
    "bops": 7.0,
    "a": 5.0,
    "b": 3.0,
    "a-b": 100.0,
    "3d-kid": 0.5,
    "log": 6.0,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-1*FID-GT-1k - avg_bits*150", -90 - 525),
        ("FID-GT-1k*-1", -90),
        ("-judge-fid-20*avg_bits", -72.5),
        ("FID - FID-GT-1k-FID-FP-1k", 8 - 90 - 4),
        ("FID-avg_bits", 4.5),
        ("a-b", 100),
        ("a - b", 2),
        ("a -b", 2),
        ("a- b", 2),
        ("a-b-b", 97),
        ("avg_bits - 3", 0.5),
        ("avg_bits-3", 0.5),
        ("3d-kid + 3", 3.5),
        ("-a**2", -25),
        ("(-a)**2", 25),
        ("2**-a", 2**-5),
        ("b**2**a", 3.0**32),
        ("-a % 3", -5 % 3),
        ("a // 2 * 2 / 4", 1),
        ("a - b - 1", 1),
        ("a / b / 2", 5 / 6),
        ("--a", 5),
        ("+a", 5),
        (".5*a + 1.e1 + 2E-1", 12.7),
        ("np.power(a, b)/(np.log10(FID+1)+1)", 5.0**3.0 / (math.log10(9) + 1)),
        ("log(a) + np.exp(b) - numpy.sqrt(FID)", math.log(5) + math.exp(3) - math.sqrt(8)),
        ("log * log(log)", 6 * math.log(6)),
        ("max(a, b, 9) + min(a, b) + clip(FID, 0, 1) + abs(-a)", 9 + 3 + 1 + 5),
        (" ( a )\n* ( b ) ", 15),
    ],
)
def test_a_target_is_read_as_python_would_read_it(text: str, value: float) -> None:
    target = Target.parse(text, METRICS)
    assert target.value(TRIAL) == pytest.approx(value, rel=1e-15)
    assert str(target) == text


FUNCTIONS = "(there are: abs, exp, exp2, expm1, log, log2, log10, log1p, sqrt, cbrt, square, sign, …)"


def test_a_target_says_which_metrics_it_needs() -> None:
    assert Target.parse("FID-GT-1k + 2*avg_bits - FID-GT-1k", METRICS).metrics == ("FID-GT-1k", "avg_bits")


NUMBERS = st.builds(Number, st.floats(0, 1e6, allow_subnormal=False))
NODES = st.recursive(
    st.one_of(NUMBERS, st.builds(Name, st.sampled_from(METRICS))),
    lambda inner: st.one_of(
        st.builds(lambda a: Operation("-", (a,)), inner),
        st.builds(
            lambda s, a, b: Operation(s, (a, b)), st.sampled_from(["+", "-", "*", "max", "minimum"]), inner, inner
        ),
        st.builds(lambda s, a: Operation(s, (a,)), st.sampled_from(["abs", "tanh", "sign", "arctan", "floor"]), inner),
        st.builds(lambda a: Operation("/", (a, Operation("+", (Operation("abs", (a,)), Number(1.0))))), inner),
        st.builds(lambda a: Operation("**", (a, Number(2.0))), inner),
        st.builds(lambda a, b: Operation("clip", (a, Operation("-", (Number(9.0),)), b)), inner, inner),
    ),
    max_leaves=12,
)
PYTHON: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "max": np.maximum,
    "minimum": np.minimum,
    "clip": np.clip,
}


def by_numpy(node: Node, values: dict[str, Any]) -> Any:
    """Evaluate a tree without anything of what is tested."""
    if isinstance(node, Number):
        return np.float64(node.value)
    if isinstance(node, Name):
        return values[node.name]
    operands = [by_numpy(operand, values) for operand in node.operands]
    if node.symbol == "-" and len(operands) == 1:
        return -operands[0]
    return (PYTHON[node.symbol] if node.symbol in PYTHON else getattr(np, node.symbol))(*operands)


def flat(node: Node) -> str:
    """Write a tree with no more brackets than Python's precedences ask for, and no needless spaces."""
    return _flat(node)[0]


def _flat(node: Node) -> tuple[str, int]:
    if not isinstance(node, Operation):
        return str(node), 9
    if node.symbol[0].isalpha():
        return f"{node.symbol}({','.join(flat(operand) for operand in node.operands)})", 9
    if len(node.operands) == 1:
        inner, strength = _flat(node.operands[0])
        return f"-{inner}" if strength >= 3 else f"-({inner})", 3
    strength = {"+": 1, "-": 1, "*": 2, "/": 2, "**": 4}[node.symbol]
    (left, holds), (right, follows) = (_flat(operand) for operand in node.operands)
    left = left if holds > strength or (holds == strength and strength < 4) else f"({left})"
    right = right if follows > strength or (strength == 4 and follows >= 3) else f"({right})"
    return f"{left} {node.symbol} {right}", strength


@given(NODES)
@settings(deadline=None, max_examples=300, derandomize=True)
def test_every_tree_reads_back_from_its_text_and_equals_numpy(node: Node) -> None:
    columns = {name: np.array([value, -value, 0.25, 0.0]) for name, value in TRIAL.items()}
    with np.errstate(all="ignore"):
        expected = by_numpy(node, columns)
        if not node.names and not np.isfinite(expected).all():
            return
        for text in (str(node), flat(node)):
            found = parse(text, METRICS)
            assert str(found) == str(node)
            np.testing.assert_array_equal(found.evaluate(columns), expected)


@given(st.text(alphabet="ab-+*/%(), .1e2FIDGTk_[x'", max_size=30))
@settings(deadline=None, max_examples=500, derandomize=True)
def test_any_text_is_a_target_or_a_target_error(text: str) -> None:
    try:
        Target.parse(text, METRICS).value(TRIAL)
    except TargetError as error:
        said = str(error)
    else:
        return
    assert "\n" not in said
    assert said.startswith(f"target {text!r}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FID-GT-2k", "column 1: unknown metric 'FID-GT-2k'; did you mean 'FID-GT-1k'?"),
        ("judge-fidd", "column 1: unknown metric 'judge-fidd'; did you mean 'judge-fid'?"),
        (
            "2*zebra",
            "column 3: unknown metric 'zebra' (there are: FID-GT-1k, FID-FP-1k, judge-fid, avg_bits, 3d-kid, bops, "
            "FID, a-b, log, a, b)",
        ),
        ("FID-GT-1kk", "column 1: unknown metric 'FID-GT-1kk'; did you mean 'FID-GT-1k'?"),
        ("logg(a)", "column 1: unknown function 'logg'; did you mean 'log'?"),
        ("np.logg (a)", "column 1: unknown function 'logg'; did you mean 'log'?"),
        ("a(b)", f"column 1: unknown function 'a' {FUNCTIONS}"),
        ("__import__('os')", f"column 1: unknown function '__import__' {FUNCTIONS}"),
        ("a.real", "column 2: unexpected '.'"),
        ("a +", "column 4: expected a number, a metric or a function, found the end"),
        ("", "column 1: expected a number, a metric or a function, found the end"),
        ("a b", "column 3: expected an operator, found 'b'"),
        ("(a", "column 3: expected ')', found the end"),
        ("a)", "column 2: expected an operator, found ')'"),
        ("a ^ 2", "column 3: unexpected '^'"),
        ("2a", "column 1: unknown metric '2a'; did you mean 'a'?"),
        ("clip(a, b)", "column 1: clip takes 3 values, not 2"),
        ("max(a)", "column 1: max takes 2 or more values, not 1"),
        ("log(a, b)", "column 1: log takes 1 value, not 2"),
        ("log()", "column 5: expected a number, a metric or a function, found ')'"),
        ("a / (1 - 1)", "column 3: division by zero in (a / (1.0 - 1.0))"),
        ("a + 1/0", "column 6: division by zero in (1.0 / 0.0)"),
        ("a * log(0)", "column 5: log(0.0) is -inf"),
        ("3 + 4", "no metric in it, every trial would have the same value"),
        ("(" * 60 + "a" + ")" * 60, "column 51: nested deeper than 50"),
        ("a" + "+a" * 300, "column 501: longer than 500 numbers, names and operators"),
    ],
)
def test_a_wrong_text_is_one_line_with_its_column(text: str, message: str) -> None:
    with pytest.raises(TargetError) as error:
        Target.parse(text, METRICS)
    assert str(error.value) == f"target {text!r}: {message}"


def test_a_long_target_is_no_deep_recursion() -> None:
    assert Target.parse("a" + "+a" * 249, METRICS).value(TRIAL) == 1250


def test_values_of_many_trials_are_those_of_each() -> None:
    target = Target.parse("-1*judge-fid - clip(avg_bits, 3, 4)*150", METRICS)
    trials = [{"judge-fid": 0.5 * i, "avg_bits": 2 + i / 7, "bops": 1.0} for i in range(20)]
    np.testing.assert_array_equal(target.values(trials), [target.value(trial) for trial in trials])
    assert target.values([]).shape == (0,)


@pytest.mark.parametrize(
    ("text", "trial", "message"),
    [
        ("judge-fid + a", {"judge-fid2": 1.0, "a": 1.0}, "metric 'judge-fid' is missing; did you mean 'judge-fid2'?"),
        ("a / b", {"a": 1.0, "b": 0.0}, "division by zero in (a / b)"),
        ("a % (b - 3)", {"a": 1.0, "b": 3.0}, "division by zero in (a % (b - 3.0))"),
        ("log(b) + a", {"a": 1.0, "b": 0.0}, "the value is -inf with b = 0, a = 1"),
        ("sqrt(b)", {"b": -2.0}, "the value is nan with b = -2"),
        ("b ** -1", {"b": 0.0}, "the value is inf with b = 0"),
        ("b", {"b": math.nan}, "the value is nan with b = nan"),
        ("exp(b)", {"b": 1e4}, "the value is inf with b = 10000"),
    ],
)
def test_a_trial_without_a_finite_value_is_one_line_that_names_it(
    text: str, trial: dict[str, float], message: str
) -> None:
    target = Target.parse(text, METRICS)
    good = {"a": 1.0, "b": 1.0, "judge-fid": 1.0}
    with pytest.raises(TargetError) as error:
        target.values([good, good, trial, good])
    assert str(error.value) == f"target {text!r}: trial 2: {message}"
    with pytest.raises(TargetError, match="number 12: "):
        target.value(trial, "number 12")
