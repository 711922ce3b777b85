"""Building the best recipe from scores: an exact multiple-choice knapsack over units' variants or choices' options.

Choose one item per group, maximize the summed score, satisfy bounds on sums over layers. The linear program, solved by
column generation, gives every row a price; prices bound what an item can gain, which leaves a core of items open (Dyer,
Kayal & Walker, 1984; Pisinger, 1995); dominated ones go (Sinha & Zoltners, 1979); `scipy.optimize.milp` (HiGHS) solves
the rest. Every step keeps an optimum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from q2.errors import ConfigError, Q2Error, did_you_mean
from q2.search.building.dominance import undominated
from q2.search.building.silence import silent_stdout
from q2.search.objective.constraints import Constraint
from q2.search.space import Indices

__all__ = ["Built", "Group", "Knapsack", "build", "front"]

Array = NDArray[np.float64]

_CORE = 500
_SECONDS = 600.0
_CUTS = 100
_ROUNDS = 200
_TOLERANCE = 1e-6  # HiGHS's own, by which a row may be broken


@dataclass(frozen=True, eq=False)
class Group:
    """V items of which one is chosen: their scores (V,), higher is better, and by metric what each adds (V,)."""

    name: str
    scores: ArrayLike
    costs: Mapping[str, ArrayLike]


@dataclass(frozen=True, eq=False)
class Built:
    """The item chosen of every group (groups,), their summed score, and every metric's value, constants included."""

    items: Indices
    score: float
    costs: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class _Problem:
    """Minimize the summed loss of the chosen items (N,), where every row (rows, N) adds up to at most its limit."""

    loss: Array
    rows: Array
    limits: Array


class Knapsack:
    """Groups to choose from, checked and laid out once, for any number of budgets.

    `constants` are what every recipe has of a metric (`Costs.constants`). Raises `ConfigError` for a group without
    items, and for scores and costs that are missing, infinite or of another shape.

    >>> from q2.search.objective.constraints import Constraint
    >>> q = Group("q", [1.0, 5.0], {"avg_bits": [1.5, 2.0]})
    >>> k = Group("k", [1.0, 3.0], {"avg_bits": [1.5, 2.0]})
    >>> knapsack = Knapsack([q, k])
    >>> knapsack.solve().items.tolist()
    [1, 1]
    >>> knapsack.solve([Constraint("avg_bits", "<=", 3.5)]).items.tolist()
    [1, 0]
    """

    def __init__(self, groups: Sequence[Group], constants: Mapping[str, float] | None = None) -> None:
        if not groups:
            raise ConfigError("nothing to build from: there are no groups")
        metrics = list(groups[0].costs)
        parts = [_checked(group, metrics) for group in groups]
        table = np.concatenate(parts)
        self.scores: Array = table[:, 0]
        self.costs: dict[str, Array] = {name: table[:, 1 + i] for i, name in enumerate(metrics)}
        self.constants = {name: float((constants or {}).get(name, 0.0)) for name in metrics}
        sizes = np.array([len(part) for part in parts], np.intp)
        self.groups = len(sizes)
        self.owner: Indices = np.repeat(np.arange(self.groups), sizes)
        self.start: Indices = np.cumsum(sizes) - sizes

    def solve(self, constraints: Sequence[Constraint] = ()) -> Built:
        """Return the best choice within the bounds; without bounds every group's best.

        Raises `ConfigError`: a metric that the groups do not have, bounds that no choice keeps to, with the nearest
        value that one can; `Q2Error` if ten minutes are not enough.
        """
        return self._sure(self.optimum(constraints), constraints)

    def front(self, metric: str, budgets: Sequence[float], constraints: Sequence[Constraint] = ()) -> list[Built]:
        """Return the best choice with ``metric <= budget`` for every budget, within other bounds; see `solve`."""
        return [self.solve([*constraints, Constraint(metric, "<=", budget)]) for budget in budgets]

    def least(self, metric: str, constraints: Sequence[Constraint] = ()) -> Built:
        """Return the choice with the least of a metric within the bounds; see `solve`."""
        return self._sure(self.optimum(constraints, metric), constraints)

    def _metric(self, name: str, sign: float = 1.0) -> Array:
        if name not in self.costs:
            raise ConfigError(f"no metric {name!r} to build within{did_you_mean(name, self.costs)}")
        return sign * self.costs[name]

    def optimum(self, constraints: Sequence[Constraint] = (), aim: str = "") -> Built | None:
        """Return the choice with the highest score, or the least of the metric `aim` (the most of ``-metric``).

        None if no choice satisfies the bounds; otherwise as `solve`.
        """
        value = -self.scores if not aim else self._metric(aim.removeprefix("-"), -1.0 if aim[0] == "-" else 1.0)
        best = self._least_of_each(value)
        rows, limits = np.zeros((len(constraints), len(value))), np.zeros(len(constraints))
        for i, bound in enumerate(constraints):
            cost, sign = self._metric(bound.metric, bound.sign), bound.sign
            low = np.minimum.reduceat(cost, self.start)
            scale = _TOLERANCE / bound.slack  # so that HiGHS's tolerance is the bound's slack
            rows[i] = (cost - low[self.owner]) * scale
            limits[i] = (sign * (bound.bound - self.constants[bound.metric]) + bound.slack - low.sum()) * scale
        if self._admitted(best, constraints):
            return self._built(best)
        return self._search(_Problem(value - value[best][self.owner], rows, limits), constraints)

    def _search(self, problem: _Problem, constraints: Sequence[Constraint]) -> Built | None:
        """Solve on a core of promising items, as large as it takes to be sure that the rest hold nothing better."""
        if len(self.owner) <= _CORE:
            chosen = self._core(problem, np.arange(len(self.owner)), constraints)
            return None if chosen is None else self._built(chosen)
        prices = self._prices(problem)
        if prices is None:
            return None
        priced = problem.loss + prices @ problem.rows
        low = np.minimum.reduceat(priced, self.start)
        reduced, bound = priced - low[self.owner], float(low.sum() - prices @ problem.limits)
        ranked = np.sort(reduced)
        threshold = float(ranked[min(_CORE, len(ranked) - 1)])
        while True:
            core = np.flatnonzero(reduced <= threshold)
            chosen = self._core(problem, core, constraints)
            if chosen is not None:
                gap = float(problem.loss[chosen].sum()) - bound
                if gap <= threshold or len(core) == len(reduced):
                    return self._built(chosen)
                threshold = gap * (1 + 1e-9)
            elif len(core) == len(reduced):
                return None
            else:
                threshold = float(ranked[min(4 * len(core), len(ranked) - 1)])

    def _prices(self, problem: _Problem) -> Array | None:
        """Return the prices of the rows in the linear program (rows,), or None where even that has no solution.

        Columns are generated: only items that are best of their group at some prices take part. The first stage has
        no losses and pays for what is over a limit.
        """
        starts = [self._least_of_each(row) for row in (problem.loss, *problem.rows)]
        columns = np.unique(np.concatenate(starts))
        prices = np.zeros(len(problem.rows))
        for loss, elastic in ((np.zeros(len(self.owner)), True), (problem.loss / _unit(problem.loss), False)):
            for _ in range(_ROUNDS):
                found = self._linear(loss, problem, columns, elastic=elastic)
                if found is None:
                    break
                prices, floors, over = found
                if elastic and over <= _TOLERANCE:
                    break
                reduced = loss + prices @ problem.rows - floors[self.owner]
                new = self._least_of_each(reduced)
                new = new[reduced[new] < -1e-9]
                if not len(new):
                    if elastic:
                        return None
                    break
                columns = np.union1d(columns, new)
        return prices * _unit(problem.loss)

    def _linear(
        self, loss: Array, problem: _Problem, columns: Indices, *, elastic: bool
    ) -> tuple[Array, Array, float] | None:
        """Solve the linear program over some items; return the rows' prices, the groups', and what is over limits."""
        extra = len(problem.rows) if elastic else 0
        found = linprog(
            np.append(loss[columns], np.ones(extra)),
            A_ub=np.hstack([problem.rows[:, columns], -np.eye(len(problem.rows), extra)]),
            b_ub=problem.limits,
            A_eq=sparse.hstack([self._one_each(columns), sparse.csr_array((self.groups, extra))]),
            b_eq=np.ones(self.groups),
            method="highs-ds",
        )
        if found.x is None:
            return None
        over = float(found.x[len(columns) :].sum())
        return np.maximum(-found.ineqlin.marginals, 0.0), np.asarray(found.eqlin.marginals), over

    def _core(self, problem: _Problem, core: Indices, constraints: Sequence[Constraint]) -> Indices | None:
        """Return the best choice among the items `core`, or None where there is none."""
        core = self._undominated(core, problem)
        loss = problem.loss[core]
        bounds = [
            LinearConstraint(self._one_each(core), 1, 1),
            LinearConstraint(sparse.csr_array(problem.rows[:, core]), -np.inf, problem.limits),
        ]
        for _ in range(_CUTS):
            with silent_stdout():
                found = milp(
                    loss * (1e3 / _unit(loss)),
                    integrality=np.ones(len(core)),
                    bounds=Bounds(0, 1),
                    constraints=bounds,
                    options={"mip_rel_gap": 0.0, "time_limit": _SECONDS},
                )
            if found.status == 2:
                return None
            if found.status != 0:
                raise Q2Error(f"{_and(constraints)}: HiGHS found no proven optimum: {found.message.splitlines()[0]}")
            chosen = np.flatnonzero(found.x > 0.5)
            if self._admitted(core[chosen], constraints):
                return np.asarray(core[chosen])
            cut = np.zeros((1, len(core)))  # within HiGHS's tolerance, but not within ours: not this one
            cut[0, chosen] = 1
            bounds.append(LinearConstraint(sparse.csr_array(cut), -np.inf, self.groups - 1))
        raise Q2Error(f"{_and(constraints)}: too many choices lie within rounding of the bound")

    def _sure(self, found: Built | None, constraints: Sequence[Constraint]) -> Built:
        """Raise `ConfigError`, if nothing was found, for the first bound that those before it rule out."""
        if found is not None:
            return found
        for count, bound in enumerate(constraints):
            others = constraints[:count]
            aim = bound.metric if bound.sense == "<=" else f"-{bound.metric}"
            nearest = self.optimum(others, aim)
            if nearest is not None and not bound.admits(nearest.costs[bound.metric]):
                raise ConfigError(bound.refusal(nearest.costs[bound.metric], others))
        raise Q2Error(f"{_and(constraints)}: no choice found that satisfies it")

    def _undominated(self, core: Indices, problem: _Problem) -> Indices:
        """Return the items of `core` that no other item of their group dominates."""
        points = np.vstack([problem.loss[None, core], problem.rows[:, core]]).T
        cuts = np.flatnonzero(np.diff(self.owner[core])) + 1
        parts = zip(np.split(core, cuts), np.split(points, cuts), strict=True)
        return np.concatenate([items[undominated(own)] for items, own in parts])

    def _least_of_each(self, values: Array) -> Indices:
        """Return every group's item with the least value, the first of equal ones."""
        low = np.minimum.reduceat(values, self.start)
        places = np.flatnonzero(values == low[self.owner])
        _, first = np.unique(self.owner[places], return_index=True)
        return np.asarray(places[first])

    def _one_each(self, items: Indices) -> sparse.csr_array:
        cells = (self.owner[items], np.arange(len(items)))
        return sparse.csr_array((np.ones(len(items)), cells), (self.groups, len(items)))

    def _value(self, metric: str, chosen: Indices) -> float:
        return float(self._metric(metric)[chosen].sum() + self.constants[metric])

    def _admitted(self, chosen: Indices, constraints: Sequence[Constraint]) -> bool:
        return all(bound.admits(self._value(bound.metric, chosen)) for bound in constraints)

    def _built(self, chosen: Indices) -> Built:
        costs = {name: self._value(name, chosen) for name in self.costs}
        return Built(np.asarray(chosen - self.start), float(self.scores[chosen].sum()), costs)


def build(
    groups: Sequence[Group], constraints: Sequence[Constraint] = (), constants: Mapping[str, float] | None = None
) -> Built:
    """Return the best choice of one item per group within the bounds; see `Knapsack`."""
    return Knapsack(groups, constants).solve(constraints)


def front(
    groups: Sequence[Group], metric: str, budgets: Sequence[float], constants: Mapping[str, float] | None = None
) -> list[Built]:
    """Return the best choice for every budget of a metric; see `Knapsack`."""
    return Knapsack(groups, constants).front(metric, budgets)


def _checked(group: Group, metrics: Sequence[str]) -> Array:
    """Return scores and costs as columns (V, 1 + metrics)."""
    for name in metrics:
        if name not in group.costs:
            raise ConfigError(f"group {group.name!r}: no {name!r}{did_you_mean(name, group.costs)}")
    columns = [np.asarray(column, np.float64) for column in (group.scores, *(group.costs[name] for name in metrics))]
    if columns[0].ndim != 1 or not columns[0].size or any(column.shape != columns[0].shape for column in columns):
        raise ConfigError(f"group {group.name!r}: expected one score and cost for every item, one item or more")
    if not all(np.isfinite(column).all() for column in columns):
        raise ConfigError(f"group {group.name!r}: a score or cost is infinite or no number")
    return np.stack(columns, axis=1)


def _unit(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0)) or 1.0


def _and(constraints: Sequence[Constraint]) -> str:
    return " and ".join(f"'{bound}'" for bound in constraints)
