"""The base classes of metrics: numbers that a trial is measured by, with their direction, unit and cost."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from q2.deprecation import deprecated
from q2.errors import Q2Error
from q2.search.metrics.intervals import Estimate, Labels, mean_estimate
from q2.settings import EvaluationSettings, Fidelity

if TYPE_CHECKING:
    from q2.denoisers import Denoiser, Samples

__all__ = [
    "LADDER",
    "Against",
    "Better",
    "Chunk",
    "Cost",
    "ForwardMetric",
    "FreeMetric",
    "ImageMetric",
    "Metric",
    "Outputs",
    "metrics_at",
]

Array = NDArray[np.float64]
Better = Literal["higher", "lower"]
Cost = Literal["free", "forward", "images"]
LADDER: tuple[Fidelity, ...] = ("weights", "forward", "few-step", "full")
"""The fidelities, cheapest first."""
Against = Literal["", "full", "real"]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the denoiser gave for inputs of full precision's own (N, ...), beside what it gave there.

    `seconds` (calls,) is the time each call took. `images` (N,) is the number of the image on whose way to it an input
    lay, and `labels` (N,) that image's class: an image's inputs, one a step, are drawn together.
    """

    made: Array
    full: Array
    seconds: Array
    images: Labels
    labels: Labels


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some of a trial's images, with full precision's from the same noise. Raises `NotFiniteError`."""

    made: "Samples"
    full: "Samples"
    known: dict[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from q2.search.metrics.finite import check_samples

        check_samples(self.made)
        check_samples(self.full)

    def features(self, name: str, of: "Callable[[Samples], Array]") -> Array:
        """Return the features (N, ...) of the images, computed once for all metrics that give them the same name."""
        if name not in self.known:
            self.known[name] = of(self.made)
        return self.known[name]


class Metric(ABC):
    """A number that a trial is measured by. Subclass one of `FreeMetric`, `ForwardMetric` and `ImageMetric`.

    `cost` is what it takes: ``free`` (the recipe and the bank), ``forward`` (a few passes of the denoiser) or
    ``images`` (whole samples). An `estimate` comes with an interval, since other noise would give another number; no
    interval goes beyond `bounds`, which hold whatever the metric can be.
    """

    name: ClassVar[str]
    better: ClassVar[Better]
    cost: ClassVar[Cost]
    estimate: ClassVar[bool] = True
    unit: ClassVar[str] = ""
    bounds: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    owner: str = "q2"
    """The plugin that offers it; set by who loads it."""

    def __init__(self, denoiser: "Denoiser", settings: EvaluationSettings) -> None:
        """Load what it needs: a network, a reference. Raises `Q2Error`, one line, for what is missing."""

    @classmethod
    def check_class(cls) -> None:
        """Raise `Q2Error` for a subclass that is not well formed; called when a plugin's metric is loaded."""
        kinds = {"free": FreeMetric, "forward": ForwardMetric, "images": ImageMetric}
        allowed = {"better": get_args(Better), "cost": get_args(Cost)}
        allowed |= {"against": get_args(Against)} if issubclass(cls, ImageMetric) else {}
        for key, values in allowed.items():
            found = getattr(cls, key, None)
            if found not in values:
                expected = " or ".join(map(repr, values))
                raise Q2Error(f"is the class {cls.__name__}, whose {key} is {found!r}, expected {expected}")
        if not issubclass(cls, kinds[cls.cost]):
            raise Q2Error(f"is the class {cls.__name__}, whose cost is {cls.cost!r}, and no {kinds[cls.cost].__name__}")
        if issubclass(cls, ImageMetric) and "labels" not in inspect.signature(cls.value).parameters:
            deprecated(
                f"value of the metric {cls.name!r} without labels",
                removed="0.3.0",
                instead="give it a third argument, labels=None",
            )

    @classmethod
    def check(cls, denoiser: "Denoiser", settings: EvaluationSettings) -> None:
        """Raise `Q2Error`, one line, for what the metric needs and is missing, before weights are loaded."""

    @classmethod
    def axis_label(cls) -> str:
        """Return what a picture's axis is called: the name, the unit unless the name has it, and what is better."""
        unit = f"{cls.unit}, " if cls.unit and cls.unit not in cls.name else ""
        return f"{cls.name} ({unit}{cls.better} is better)"

    @classmethod
    def sign(cls) -> int:
        """Return 1 where higher is better, -1 where lower is."""
        return 1 if cls.better == "higher" else -1


class FreeMetric(Metric):
    """A metric that follows from the recipe; `q2.search.evaluation.costs` has those of the same names at once."""

    cost = "free"
    estimate = False

    def value(self, costs: Mapping[str, float]) -> float:
        """Return its value from the sums over layers."""
        return costs[self.name]


class ForwardMetric(Metric):
    """A metric of single passes of the denoiser."""

    cost = "forward"

    @abstractmethod
    def value(self, outputs: Outputs) -> Estimate | float:
        """Return its value: an estimate with its interval, or a number, which has none."""


class ImageMetric(Metric):
    """A metric of images: rows of numbers image by image, a chunk at a time, then a value from all rows.

    Of videos there is a row for each, or for each frame: `Samples.images` are frames, `Samples.labels` videos.

    Without a `value` of its own it is the mean of the rows.
    """

    cost = "images"
    against: Against = ""
    """Whose rows `value` takes too: full precision's own, or those of the real images in `reference`."""

    @abstractmethod
    def rows(self, chunk: Chunk) -> Array:
        """Return the numbers (N, ...) of a chunk's N images."""

    def value(self, rows: Array, other: Array | None, labels: Labels | None = None) -> Estimate | float:
        """Return the value from the rows of all images; `other` are the rows of the images compared `against`.

        `labels` (N,) are the images' classes or prompts, which are the same whatever the seed. It is an estimate with
        its interval, or a number, which has none.
        """
        return mean_estimate(rows, labels)


def metrics_at(fidelity: Fidelity, metrics: Sequence[type[Metric]]) -> list[type[Metric]]:
    """Return those of the metrics that a fidelity measures: dearer ones need more."""
    reach = {"weights": ("free",), "forward": ("free", "forward")}
    return [metric for metric in metrics if metric.cost in reach.get(fidelity, ("free", "forward", "images"))]
