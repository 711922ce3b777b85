"""A recipe applied to other weights than it was found on: how its options' errors change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from q2.graph import Graph
from q2.passes.transform.quantize import Quantize
from q2.quant import Recipe, parts_of
from q2.session.session import Session

__all__ = ["Drift", "applied_recipe", "drift_of", "ratios_of"]


@dataclass(frozen=True)
class Drift:
    """Fingerprints of a recipe's weights and of the weights at hand, and each layer's SQNR before and now, in dB.

    >>> Drift("aa", "bb", {"x": (20.0, 18.0), "y": (20.0, 19.0), "z": (20.0, 20.5)}).summary
    "found on other weights (aa; these are bb): SQNR of 3 options moved by -1.0 dB in the median, by -2.0 dB in 'x'"
    """

    before: str
    now: str
    ratios: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def moved(self) -> dict[str, float]:
        """How far each layer's SQNR moved, in dB; below 0 is worse."""
        return {name: now - before for name, (before, now) in self.ratios.items()}

    @property
    def summary(self) -> str:
        """The one line that a run says."""
        line = f"found on other weights ({self.before}; these are {self.now})"
        if not self.moved:
            return line
        worst = min(self.moved, key=lambda name: self.moved[name])
        return (
            f"{line}: SQNR of {len(self.moved)} options moved by {median(self.moved.values()):+.1f} dB in the median, "
            f"by {self.moved[worst]:+.1f} dB in {worst!r}"
        )

    @property
    def data(self) -> dict[str, object]:
        """The same for ``report.json``."""
        return {"found_on": self.before, "applied_to": self.now, "sqnr_db_moved": self.moved}


def applied_recipe(session: Session) -> Recipe | None:
    """Return the recipe that a session applies, if it applies one."""
    steps = [step for _, step in session.passes if isinstance(step, Quantize) and step.recipe]
    return Recipe.load(path) if steps and (path := steps[-1].recipe) else session.applied


def drift_of(session: Session, graph: Graph | None = None, recipe: Recipe | None = None) -> Drift | None:
    """Return the drift of a recipe (None: the session's) that was applied to `graph`; without it, of its weights alone.

    None where there is no recipe, or it was found on these weights, or does not say on which.
    """
    recipe, denoiser = recipe or applied_recipe(session), session.denoiser
    if recipe is None or denoiser.weights == "meta" or recipe.fingerprint in ("", denoiser.fingerprint):
        return None
    now = ratios_of(graph) if graph is not None else {}
    both = {name: (ratio, now[name]) for name, ratio in recipe.sqnr_db.items() if name in now}
    return Drift(recipe.fingerprint, denoiser.fingerprint, both)


def ratios_of(graph: Graph) -> dict[str, float]:
    """Return how well each quantized choice keeps its weight, in dB, where it was fitted in this process."""
    ratios: dict[str, float] = {}
    for name, choice in graph.choices.items():
        part = next((part for part in parts_of(choice.layer.module) if part.channels == choice.channels), None)
        if part is not None and part.fitted is not None:
            ratios[name] = part.fitted.sqnr_db
    return ratios
