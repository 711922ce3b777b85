"""The base class of engines: workers that measure recipes, each of which loads the denoiser once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable

from q2.search.evaluation.jobs import Evaluated, Job
from q2.settings import EngineSettings

__all__ = ["Engine", "Load", "Make", "Placed", "Places", "Prepares", "Worker"]

Worker = Callable[[Job], Evaluated]
"""Measures a recipe; it never raises for a recipe's fault, see `Evaluator`."""
Places = Mapping[str, Path]
"""The folders that a worker reads, by what is in them; they are there, and final, before the first job."""
Make = Callable[[Places], Worker]
"""Makes a worker where it is to work, from what lies there."""
Load = Callable[[], Make]
"""Loads, where the worker is to work, what it needs of no folder; it can be pickled."""


@runtime_checkable
class Prepares(Protocol):
    """A `Load` that can import ahead of time, in a process that workers are forked from."""

    def prepare(self) -> None:
        """Import what loading needs; compute nothing, and start no threads."""


@runtime_checkable
class Placed(Protocol):
    """A `Load` that says on which device of PyTorch its workers compute; others use a GPU where there is one."""

    @property
    def device(self) -> str:
        """A device's name; ``auto`` is CUDA where there is one."""


class Engine(ABC):
    """Runs jobs on workers that it makes with what `load` returns. A context manager: what it has started, it stops.

    Subclasses are handed over in `q2_engines`. They are told nothing of searches, strategies and stores. `places` are
    absolute folders of this machine; an engine whose workers are elsewhere makes them from copies.
    """

    name: ClassVar[str]

    def __init__(self, settings: EngineSettings, load: Load, places: Places) -> None:
        """Raise `ConfigError` for settings that cannot be met here; start nothing."""
        self.settings, self.load, self.places = settings, load, places
        self.device = load.device if isinstance(load, Placed) else "auto"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many trials run at a time."""

    def prepare(self) -> None:
        """Start what imports ahead of time, while settings are checked that may still be wrong."""

    def warm(self) -> None:
        """Start workers and let them load, while other things are made ready; called before there are jobs."""

    @abstractmethod
    def run(self, jobs: Sequence[Job]) -> Iterator[Evaluated]:
        """Yield the result of every job, each once, in the order in which they are done.

        A job whose worker died is given to another, `settings.retries` times; then its trial has failed. What
        loading and making a worker raises is raised.
        """

    def close(self) -> None:
        """Stop the workers; jobs in flight are lost."""
