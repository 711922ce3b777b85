"""A space of four layers in two units, and labels of it, small enough to be gone through by hand."""

import itertools
from collections.abc import Iterator

import numpy as np

from q2.search.predictor.dataset import Floats, Topology, UnitNodes
from q2.search.predictor.label import Labels, UnitScores
from q2.search.predictor.provenance import BY_SEARCH, Provenance
from q2.search.predictor.space import NodeSpace
from q2.search.subject import Subject

OPTIONS = ("uaq-4", "uaq-3", "uaq-2")
LAYERS = ("a.q", "a.k", "b.up", "b.down")
WEIGHTS = np.array([10.0, 10.0, 40.0, 20.0])
MADE = Provenance(Subject("toy", "0a1b"), by=BY_SEARCH, trials="runs/toy/trials", count=40, fidelity="full")


def space(made: Provenance = MADE, allowed: Floats | None = None) -> NodeSpace:
    """Layers of 80 weights; `bops` are weights times the square of bits, and 7 are always there."""
    bits = WEIGHTS[:, None] * np.array([4.0, 3.0, 2.0])
    units = (UnitNodes("a", "attn", (0, 1), (0, 1), 1, 1), UnitNodes("b", "ff", (2, 3), (2, 3), 3, 1))
    topology = Topology(LAYERS, np.array([[0, 1, 2], [1, 2, 3]]), (0, 1, 2, 3), units)
    empty = np.zeros((12, 0))
    return NodeSpace(
        OPTIONS,
        LAYERS,
        np.arange(4),
        bits,
        WEIGHTS,
        None,
        topology,
        {},
        (),
        empty.astype(np.int64),
        empty,
        np.arange(4) * 3,
        np.ones((4, 3), bool) if allowed is None else allowed.astype(bool),
        {"avg_bits": bits / 80, "bops": bits**2 / WEIGHTS[:, None]},
        {"avg_bits": 0.0, "bops": 7.0},
        made,
    )


def labels(seed: int = 0, scale: float = 1.0, made: Provenance = MADE, folds: int = 2) -> Labels:
    """Scores drawn from a seed; a unit's variants have scores of their own, not sums."""
    rng = np.random.default_rng(seed)
    nodes = scale * rng.normal(size=(4, 3, folds))
    variants = np.array(list(itertools.product(range(3), repeat=2)))
    units = [
        UnitScores(name, kind, own, variants, scale * rng.normal(size=(9, folds)), True)
        for name, kind, own in (("a", "attn", LAYERS[:2]), ("b", "ff", LAYERS[2:]))
    ]
    return Labels(OPTIONS, LAYERS, nodes, tuple(units), made)


def every() -> Iterator[tuple[int, ...]]:
    """All 81 recipes."""
    return itertools.product(range(3), repeat=4)
