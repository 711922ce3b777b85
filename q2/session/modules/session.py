"""The session of a run file about a module: the same settings, plugins and passes, another model."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from q2.errors import ConfigError
from q2.passes import PassContext
from q2.plugins import Catalogue
from q2.search.kinds import ENGINES, STRATEGIES
from q2.session.session import Session

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.models.model import Model
    from q2.quant.bank import Bank

__all__ = ["ModuleSession"]


@dataclass(eq=False)
class ModuleSession(Session):
    """A session whose `graph` is that of `model`, the run file's `[model]` with its `[data]`.

    A transform and every trial of a search work on a fork, which loads the model for itself.
    """

    @classmethod
    def of(cls, session: Session) -> Self:
        """Return the session of the same run. Raises `ConfigError` for one that is about a denoiser too."""
        settings = session.settings
        if settings.denoiser != type(settings.denoiser)():
            with session.at("model"):
                raise ConfigError("the run file has [denoiser] too; leave one of the two out")
        return cls(session.run, session.progress, session.show, session.tell)

    @property
    def title(self) -> str:
        """What the run is about: the model's name, or its factory's."""
        wanted = self.settings.model
        return wanted.name or wanted.factory.partition(":")[2].rpartition(".")[2] or Path(wanted.saved).name

    @cached_property
    def model(self) -> "Model":
        """The module with its weights and data. Raises `ConfigError`."""
        from q2.models.data.splits import load_data
        from q2.models.imported import shipped_model
        from q2.models.model import load_model

        settings = self.settings
        if settings.model.saved:
            return self._saved[0]
        with self.at("model"):
            default = shipped_model(settings.model.name).data if settings.model.name else ""
        with self.at("data"):
            data = load_data(settings.data, default)
        with self.at("model"):
            return load_model(settings.model, data, settings.seed)

    @cached_property
    def graph(self) -> "Graph":
        """The loaded module, traced. Raises `ConfigError`, with the line at which it could not be traced."""
        from q2.graph import trace

        if self.settings.model.saved:
            return self._saved[1]

        with self.at("model"), _located(self.model):
            return trace(self.model.module, self.model.example_inputs())

    @cached_property
    def _saved(self) -> "tuple[Model, Graph]":
        """The model and graph of a folder that a transform saved. Raises `ConfigError`."""
        from q2.session.modules.saving import load_graph

        wanted = self.settings.model
        with self.at("model", "saved"):
            if wanted.name or wanted.factory:
                raise ConfigError(f"{wanted.saved!r} says which model it is; leave out name and import")
            return load_graph(Path(wanted.saved), self.settings.data)

    def _check_names(self) -> None:
        """Raise `ConfigError`, with the key, for an engine or strategy that there is not."""
        search = self.settings.search
        strategy = str(search.strategies.get(search.strategy, {}).get("strategy", search.strategy))
        for key, kind, name in (
            (("search", "engine", "name"), ENGINES, search.engine.name),
            (("search", "strategy"), STRATEGIES, strategy),
        ):
            catalogue: Catalogue[Any] = self.plugins.of(kind)
            with self.at(*key):
                catalogue.find(name)

    def context(self, bank: "Bank | None" = None) -> PassContext:
        """Return what passes may use beside the graph."""
        settings = self.settings
        return PassContext(self.plugins, None, settings.seed, self.progress, settings.prec, bank, model=self.model)

    def fork(self, weights: object = None) -> Self:
        """Return the same session with nothing loaded yet."""
        fork = super().fork()
        for name in ("model", "_saved"):
            vars(fork).pop(name, None)
        return fork


@contextmanager
def _located(model: "Model") -> Iterator[None]:
    """Add the line of the module's own code at which a trace failed."""
    import sys
    import traceback

    from q2.errors import TraceError

    try:
        yield
    except TraceError as error:
        source = getattr(sys.modules.get(type(model.module).__module__), "__file__", None)
        frames = [each for cause in _causes(error) for each in traceback.extract_tb(cause.__traceback__)]
        own = [frame for frame in frames if frame.filename == source]
        if not own:
            raise
        last = own[-1]
        raise TraceError(f"{error} ({last.filename}, line {last.lineno}: {last.line})") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
