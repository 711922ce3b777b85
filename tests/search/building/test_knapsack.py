"""The knapsack's choice is the best that there is, and what cannot be built is said in one line."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from q2.errors import ConfigError
from q2.search.building.knapsack import Group, Knapsack, build, front
from q2.search.objective.constraints import Constraint

METRICS = ("avg_bits", "bops")


def best_of_all(groups: list[Group], constraints: list[Constraint], constants: dict[str, float]) -> float | None:
    """The best score within the bounds, by trying everything."""
    best = None
    for items in itertools.product(*(range(len(np.asarray(group.scores))) for group in groups)):
        picked = list(zip(groups, items, strict=True))
        values = {name: sum(np.asarray(g.costs[name])[i] for g, i in picked) + constants[name] for name in METRICS}
        if all(bound.admits(float(values[bound.metric])) for bound in constraints):
            score = float(sum(np.asarray(group.scores)[i] for group, i in picked))
            best = score if best is None else max(best, score)
    return best


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Group], list[Constraint], dict[str, float]]:
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    unit = draw(st.sampled_from([1.0, 1e-3, 1e4]))  # scores of any size
    whole = draw(st.booleans())  # whole numbers make ties and bounds that are met exactly
    groups = []
    for i in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 5))
        table = rng.integers(0, 6, (3, count)) if whole else rng.normal(size=(3, count)).round(6)
        groups.append(Group(f"g{i}", table[0] * unit, {"avg_bits": table[1], "bops": table[2] / 8}))
    constants = {"avg_bits": 2.0, "bops": 0.5}
    bounds = []
    for _ in range(draw(st.integers(0, 3))):
        metric, sense = draw(st.sampled_from(METRICS)), draw(st.sampled_from(["<=", ">="]))
        columns = [np.asarray(group.costs[metric]) for group in groups]
        low, high = sum(c.min() for c in columns), sum(c.max() for c in columns)
        share = draw(st.sampled_from([-0.1, 0.0, 0.25, 0.5, 0.75, 1.0, 1.1]))
        bounds.append(Constraint(metric, sense, float(low + share * (high - low) + constants[metric])))  # type: ignore[arg-type]
    return groups, bounds, constants


@given(problems(), st.sampled_from([1, 4, 500]))
@settings(max_examples=150, deadline=None)
def test_the_choice_is_the_best_of_all(
    problem: tuple[list[Group], list[Constraint], dict[str, float]], core: int
) -> None:
    groups, bounds, constants = problem
    with pytest.MonkeyPatch.context() as patch:  # a small core makes small problems go the way of large ones
        patch.setattr("q2.search.building.knapsack._CORE", core)
        _compare(groups, bounds, constants)


def _compare(groups: list[Group], bounds: list[Constraint], constants: dict[str, float]) -> None:
    expected = best_of_all(groups, bounds, constants)
    if expected is None:
        assert Knapsack(groups, constants).optimum(bounds) is None
        with pytest.raises(ConfigError, match=r"^constraint '.*': no recipe satisfies it.*, the (least|most) is \S+$"):
            build(groups, bounds, constants)
        return
    built = build(groups, bounds, constants)
    assert built.score == pytest.approx(expected, rel=1e-7, abs=1e-7 * abs(np.asarray(groups[0].scores)).max())
    for name in METRICS:
        picked = [float(np.asarray(g.costs[name])[i]) for g, i in zip(groups, built.items, strict=True)]
        assert built.costs[name] == pytest.approx(math.fsum(picked) + constants[name])
    assert all(bound.admits(built.costs[bound.metric]) for bound in bounds)


def units(count: int, choices: int, seed: int = 0) -> list[Group]:
    """Units of several layers with six options each, all variants."""
    rng = np.random.default_rng(seed)
    variants = np.array(list(itertools.product(range(6), repeat=choices)))
    groups = []
    for i in range(count):
        weights = rng.integers(10**5, 10**7, (choices, 1))
        bits = weights * np.array([4.3, 4.01, 4.1, 3.2, 3.01, 3.1])
        error = weights * 2.0 ** (-2 * bits / weights) * rng.lognormal(0, 0.5, (choices, 6))
        rows = np.arange(choices)
        costs = {"bytes": bits[rows, variants].sum(1) / 8, "bops": (bits**1.1)[rows, variants].sum(1) / 1e9}
        groups.append(Group(f"u{i}", -error[rows, variants].sum(1), costs))
    return groups


def test_a_budget_of_many_variants_is_met_closely_and_costs_score() -> None:
    knapsack = Knapsack(units(60, 4))
    least, most = knapsack.least("bytes").costs["bytes"], knapsack.solve().costs["bytes"]
    budgets = np.linspace(least, most, 6)
    found = knapsack.front("bytes", budgets.tolist())
    assert all(b.costs["bytes"] <= budget * (1 + 1e-9) for b, budget in zip(found, budgets, strict=True))
    assert all(b.costs["bytes"] > budget * 0.9999 for b, budget in zip(found, budgets, strict=True))
    scores = [b.score for b in found]
    assert scores == sorted(scores)
    assert scores[-1] == knapsack.solve().score


def test_nothing_is_printed_while_it_solves(capfd: pytest.CaptureFixture[str]) -> None:
    knapsack = Knapsack(units(60, 4))
    least, most = knapsack.least("bytes").costs["bytes"], knapsack.solve().costs["bytes"]
    knapsack.solve([Constraint("bytes", "<=", (least + most) / 2), Constraint("bytes", ">=", least)])
    assert capfd.readouterr().out == ""


def test_the_same_budget_gives_the_same_choice() -> None:
    bound = [Constraint("bytes", "<=", 2.6e8)]
    assert build(units(40, 3), bound).items.tolist() == build(units(40, 3), bound).items.tolist()


def test_the_nearest_value_of_an_infeasible_budget_is_feasible() -> None:
    groups = [Group(f"g{i}", [0.0, 1.0], {"avg_bits": [1 / 3, 1.0]}) for i in range(4)]
    with pytest.raises(ConfigError) as error:
        build(groups, [Constraint("avg_bits", "<=", 1.2)])
    assert str(error.value) == "constraint 'avg_bits <= 1.2': no recipe satisfies it, the least is 1.33334"
    assert build(groups, [Constraint("avg_bits", "<=", 1.33334)]).items.tolist() == [0, 0, 0, 0]


def test_bounds_that_exclude_each_other_are_named_together() -> None:
    groups = [Group("a", [1.0, 2.0], {"bits": [1, 2], "bops": [2, 1]}), Group("b", [0.0], {"bits": [1], "bops": [1]})]
    with pytest.raises(ConfigError) as error:
        build(groups, [Constraint("bits", "<=", 2), Constraint("bops", "<=", 2)])
    assert str(error.value) == (
        "constraint 'bops <= 2': no recipe satisfies it together with 'bits <= 2', the least is 3"
    )


def test_bounds_between_two_values_that_choices_can_have_are_refused() -> None:
    groups = [Group("a", [1.0, 2.0], {"bits": [1, 2]}), Group("b", [1.0, 2.0], {"bits": [1, 2]})]
    with pytest.raises(
        ConfigError, match=r"^constraint 'bits >= 2\.4': .* together with 'bits <= 2\.6', the most is 2$"
    ):
        build(groups, [Constraint("bits", "<=", 2.6), Constraint("bits", ">=", 2.4)])


def test_a_front_without_bounds_ends_at_every_groups_best() -> None:
    groups = [Group("a", [1.0, 3.0], {"bits": [1, 2]}), Group("b", [1.0, 2.0], {"bits": [1, 2]})]
    assert [b.items.tolist() for b in front(groups, "bits", [2, 3, 4])] == [[0, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "nothing to build from: there are no groups"),
        ([Group("a", [], {})], "group 'a': expected one score and cost for every item, one item or more"),
        ([Group("a", [1.0], {"bits": [1, 2]})], "group 'a': expected one score and cost for every item"),
        ([Group("a", [math.nan], {})], "group 'a': a score or cost is infinite or no number"),
        (
            [Group("a", [1.0], {"bits": [1]}), Group("b", [1.0], {"bit": [1]})],
            "group 'b': no 'bits'; did you mean 'bit'",
        ),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups: list[Group], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(groups)
    assert str(error.value).startswith(message)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^no metric 'bit' to build within; did you mean 'bits'\?$"):
        build([Group("a", [1.0], {"bits": [1]})], [Constraint("bit", "<=", 1)])
