"""A small search problem: a denoiser of six layers in two units, with planted costs and a planted quality."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from q2.graph import Graph, trace
from q2.quant import Option
from q2.quant.options import NONE
from q2.search.evaluation.costs import Costs
from q2.search.objective.constraints import Constraint
from q2.search.objective.target import Target
from q2.search.space import Space
from q2.search.strategies.base import Problem
from q2.search.trials.trial import Trial

__all__ = ["OPTIONS", "tiny_costs", "tiny_graph", "tiny_model", "tiny_problem", "trial_of"]

OPTIONS = ("kmeans-c-4", "uaq-4", "uaq-3")


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.to_out(F.scaled_dot_product_attention(self.to_q(x), self.to_k(x), self.to_v(x)))
        return out


class _FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(F.gelu(self.up(x)))
        return out


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.ff = _Attention(), _FeedForward()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        out: Tensor = x + self.ff(x)
        return out


def tiny_model() -> nn.Module:
    """Return a transformer block, attention (four layers) and feed-forward (two), with weights drawn from seed 0.

    It reads ``x`` (batch, tokens, 8) and returns the same shape.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Block().eval().requires_grad_(False)


@cache
def tiny_graph() -> Graph:
    """Return the graph of `tiny_model`, on meta."""
    with torch.device("meta"):
        block = _Block()
    return trace(block, {"x": torch.zeros(1, 4, 8)})


def tiny_costs(space: Space, seed: int = 0) -> Costs:
    """Return costs of a space: bits as the options say, and errors and BOPs drawn from `seed`."""
    rng = np.random.default_rng(seed)
    bits = np.array([float(Option.parse(option).bits or 16) for option in space.options])
    weights = np.array([float(choice.weights) for choice in space.choices])[:, None]
    spread = rng.lognormal(0.0, 0.5, (len(space), len(bits)))
    held = weights * (bits + 0.1 * np.arange(len(bits)))
    tables = {
        "avg_bits": held / weights.sum(),
        "quantized_size": held / 8,
        "model_size": held / 8,
        "bops": weights * rng.uniform(3.0, 16.0, len(bits)) / 1e6,
        "quantized_error": rng.lognormal(0.0, 1.0, (len(space), 1)) * 4.0**-bits * spread,
    }
    tables["quantized_error"][:, [option == NONE for option in space.options]] = 0.0
    return Costs(space, tables, dict.fromkeys(tables, 0.0))


def tiny_problem(
    *,
    options: Sequence[str] = OPTIONS,
    trials: int = 24,
    seed: int = 0,
    constraints: Sequence[str] = (),
    layers: Mapping[str, Sequence[str]] | None = None,
) -> Problem:
    """Return a search for quality in few bits; `layers` limits the options of some, as ``[search.layers]`` does.

    >>> str(tiny_problem().space)
    '3^6 recipes, 729'
    """
    space = Space.of_graph(tiny_graph(), options).limited(layers or {})
    costs = tiny_costs(space)
    target = Target.parse("quality - avg_bits", ["quality", *costs.tables])
    bounds = tuple(Constraint.parse(text, list(costs.tables)) for text in constraints)
    return Problem(space, costs, target, tiny_graph(), trials, seed, constraints=bounds)


def trial_of(problem: Problem, recipe: Mapping[str, str], number: int = 0, *, fails: bool = False) -> Trial:
    """Return what measuring a recipe gives: its costs, and a quality that falls with the error and with its square."""
    if fails:
        return Trial(recipe, fidelity=problem.fidelity, number=number, state="failed", error="planted")
    metrics = problem.costs.metrics(recipe)
    error = 64 * metrics["quantized_error"]
    return Trial(recipe, {**metrics, "quality": -error - error**2 / 4}, fidelity=problem.fidelity, number=number)
