"""What is made of labels: recipes within budgets, lists of what every unit wants, reduced search spaces."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from q2.errors import ConfigError, PredictorError
from q2.passes import TextTable
from q2.quant import Recipe
from q2.search.objective.constraints import Constraint
from q2.search.predictor.build import Builder, LabelledRecipe
from q2.search.predictor.combined import NamedPart, check_alike, combined, named_parts, with_known
from q2.search.predictor.label import Labels
from q2.search.predictor.ranking import reduced
from q2.search.predictor.scores import Level
from q2.search.predictor.space import NodeSpace
from q2.search.reduced import ReducedSpace
from q2.search.subject import Subject
from q2.session.predict import read_labels

__all__ = ["BuiltRecipes", "Scores", "build_recipes", "read_scores", "reduce_space", "sizes_of"]


@dataclass(frozen=True, eq=False)
class Scores:
    """One or several files of labels of one denoiser, and what they say together; the space is the first file's."""

    space: NodeSpace
    labels: tuple[Labels, ...]
    level: Level

    @cached_property
    def parts(self) -> list[NamedPart]:
        """The units, or layers, with their summed scores. Raises PredictorError; see `combined`."""
        return combined(self.labels, self.level)

    @property
    def subject(self) -> Subject:
        """What denoiser the labels are of. Raises PredictorError for labels that do not say it."""
        subject = self.space.made.subject
        if not subject.denoiser:
            raise PredictorError("the labels' space.npz does not say what denoiser it is of; train or search again")
        return subject

    def __str__(self) -> str:
        return " + ".join(dict.fromkeys(str(labels.made) for labels in self.labels))


@dataclass(frozen=True, eq=False)
class BuiltRecipes:
    """Recipes with what they are built for, and the files that they were written into."""

    recipes: tuple[Recipe, ...]
    built: tuple[LabelledRecipe, ...]
    files: tuple[Path, ...]

    @property
    def table(self) -> TextTable:
        """A row for every recipe: its file, what it was built within, its sums over layers and its score."""
        names = list(self.built[0].costs)
        rows = [
            (path.name, built.within or "–", *(f"{built.costs[name]:.4g}" for name in names), f"{built.score:.4g}")
            for path, built in zip(self.files, self.built, strict=True)
        ]
        return TextTable(("recipe", "within", *names, "score"), tuple(rows))


def read_scores(paths: Sequence[Path], level: Level) -> Scores:
    """Read labels, from files or folders that have them, and add what their targets know exactly.

    Raises PredictorError for those of different denoisers.
    """
    read = [read_labels(path) for path in paths]
    check_alike([labels for _, labels in read])
    return Scores(read[0][0], tuple(with_known(space, labels) for space, labels in read), level)


def build_recipes(
    scores: Scores,
    out: Path,
    constraints: Sequence[str] = (),
    *,
    metric: str = "avg_bits",
    budgets: Sequence[float] = (),
    count: int = 0,
) -> BuiltRecipes:
    """Build the best recipe within constraints (``"avg_bits <= 3.5"``), and write it into the file `out`.

    With `budgets` of a metric, or a `count` of them evenly spaced, a recipe for each, into ``out-0``, ``out-1``, …, the
    smallest first. All are built before any is written. Raises `Q2Error` for labels that do not say what denoiser they
    are of, a metric that is no sum over layers, and bounds that no recipe keeps to.
    """
    subject = scores.subject
    names = list(scores.space.tables)
    bounds = [Constraint.parse(text, names) for text in constraints]
    if metric not in names:
        raise ConfigError(f"--metric {metric}: is no sum over layers; these are: {', '.join(names)}")
    builder = Builder(scores.space, scores.parts)
    if count:
        budgets = builder.budgets(metric, count, bounds)
    built = builder.front(metric, budgets, bounds) if budgets else [builder.recipe(bounds)]
    recipes = [subject.recipe(scores.space.layers(each.chosen), each.costs["avg_bits"]) for each in built]
    old = [path for path in out.parent.glob(f"{out.stem}-*{out.suffix}") if path.stem[len(out.stem) + 1 :].isdigit()]
    numbered = [out.with_name(f"{out.stem}-{i}{out.suffix}") for i in range(len(built))]
    files = numbered if budgets else [out]
    if budgets and (left := sorted(set(old) - set(files))):
        raise ConfigError(f"--out {out}: {left[0]} of another front is there; remove it, or name another file")
    for recipe, file in zip(recipes, files, strict=True):
        recipe.save(file)
    return BuiltRecipes(tuple(recipes), tuple(built), tuple(files))


def reduce_space(scores: Scores, top: int, *, union: bool = False) -> ReducedSpace:
    """Return the space of the `top` best variants of every unit, or options of every layer.

    With `union` it is what is among the best of any file, instead of the best of the sum. Raises PredictorError.
    """
    _ = scores.subject
    what = "variants of every unit" if scores.level == "unit" else "options of every layer"
    made = f"the best {top} {what} by {scores}"
    every = [named_parts(labels, scores.level) for labels in scores.labels] if union else [scores.parts]
    return reduced(scores.space, every, top, made)


def sizes_of(scores: Scores, space: ReducedSpace) -> tuple[int, int]:
    """Return how many recipes there are by the labels, and how many of them are in a reduced space."""
    free = np.isfinite(scores.labels[0].nodes).all(-1).sum(1).tolist()
    kept = [len(options) for options in space.layers.values()] + [len(unit.variants) for unit in space.units]
    return math.prod(free), math.prod(kept)
