"""A session: a run file with all that follows from it, each part made once, when it is first asked for."""

import copy
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from q2.config import Key, RunFile, Settings, Table, dotted, to_toml
from q2.denoisers.kinds import DENOISERS
from q2.errors import ConfigError, Q2Error
from q2.files import write_text
from q2.passes import QUANTIZE, Pass, PassContext, Step, is_transform, passes_of, pipeline_text
from q2.passes.kinds import PASSES
from q2.passes.requires import all_required
from q2.passes.transform.quantize import Quantize
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.plugins import Catalogue, Plugins
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.quant.kinds import QUANTIZERS
from q2.quant.resolve import known_option
from q2.search.kinds import ENGINES, METRICS, STRATEGIES
from q2.trust import trust_written

if TYPE_CHECKING:
    from q2.denoisers import Denoiser, Weights
    from q2.graph import Graph
    from q2.quant.bank import Bank
    from q2.search.reduced import ReducedSpace
    from q2.search.space import Space

__all__ = ["Given", "Session", "quiet", "run_folder", "usable"]

Given = Recipe | Mapping[str, str] | str | Path
"""A recipe: a file, or layer to option."""


def quiet(step: Step) -> None:
    """Ignore a step."""


def untold(line: str) -> None:
    """Ignore a trial's line."""


@dataclass(eq=False)
class Session:
    """A run file's settings, plugins and passes, its denoiser, graph and search space, and what can be done with them.

    Nothing is loaded when it is made. What changes the model (`q2.session.transform` and others) works on a `fork`,
    which loads the denoiser for itself, so that `graph` stays that of full precision. `progress` and `show` tell people
    what is going on, and `tell` takes a line for every trial of a search; a library shows nothing.
    """

    run: RunFile
    progress: Progress = silent
    show: Callable[[Step], None] = quiet
    tell: Callable[[str], None] = untold
    applied: Recipe | None = field(default=None, repr=False)
    """The recipe that `with_recipe` was given, where it was no file."""

    _weights: "Weights | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` for names in the run file that no plugin offers; torch is not imported for this."""
        _ = self.passes
        self._check_names()

    @contextmanager
    def at(self, *key: str) -> Iterator[None]:
        """Raise every `Q2Error` inside as a `ConfigError` that starts with the run file's name and the key."""
        try:
            yield
        except Q2Error as error:
            if isinstance(error, ConfigError) and str(error).startswith((f"{self.run.name}:", f"{self.run.name}, ")):
                raise
            raise ConfigError(f"{self.run.where(key) if key else self.run.name}: {error}") from error

    @cached_property
    def settings(self) -> Settings:
        """The typed settings."""
        settings = self.run.settings
        if self._weights is None:
            return settings
        denoiser = settings.denoiser.model_copy(update={"weights": self._weights})
        return settings.model_copy(update={"denoiser": denoiser})

    @cached_property
    def plugins(self) -> Plugins:
        """The installed plugins and the run's own."""
        wanted = self.run.settings.plugins
        with self.at():
            return Plugins(wanted.modules, wanted.disable)

    @cached_property
    def passes(self) -> list[tuple[str, Pass]]:
        """The passes by the names of their tables, in file order."""
        return passes_of(self.run, self.plugins)

    @property
    def title(self) -> str:
        """What the run is about, in a word: the denoiser's name, or its class, or the folder that it comes from."""
        wanted = self.settings.denoiser
        return wanted.name or wanted.model.partition(":")[2] or Path(wanted.checkpoint).name or "digits-dit"

    @property
    def weights_title(self) -> str:
        """The title, and the checkpoint's and LoRAs' names where they are not the denoiser's own: a bank goes by it."""
        wanted, names = self.settings.denoiser, [self.title]
        if wanted.name and wanted.checkpoint:
            kind = self.plugins.of(DENOISERS).load(wanted.name)
            try:
                own = kind.default_checkpoint()
            except ConfigError:  # it has none
                own = ""
            names += [Path(wanted.checkpoint).stem] if wanted.checkpoint != own else []
        return "-".join([*names, *(Path(lora.path).stem for lora in wanted.loras)])

    @property
    def effective(self) -> Table:
        """Every setting in effect, the passes' defaults included, as a run file would say it."""
        table = self.settings.model_dump(mode="json")
        table["passes"] = {
            title: ({} if title == step.name else {"pass": step.name}) | step.to_table() for title, step in self.passes
        }
        return table

    @property
    def pass_pipeline(self) -> str:
        """The passes as text, as ``--passes`` takes them; defaults are left out."""
        return pipeline_text(self.passes)

    @property
    def pass_names(self) -> list[tuple[str, str]]:
        """The titles and names of the passes, and those of what they require."""
        kinds = {step.name: type(step) for _, step in self.passes}
        own = [(title, step.name) for title, step in self.passes]
        names = [name for kind in kinds.values() for name in all_required(kind, kinds, self.plugins)]
        return [*own, *((name, name) for name in names)]

    @property
    def effective_toml(self) -> str:
        """What ``effective.toml`` holds: the settings in effect, and the passes as ``--passes`` takes them."""
        words = self.pass_pipeline
        head = f"# the passes as text: --passes {shlex.quote(words)}\n\n" if words.isprintable() and words else ""
        return head + to_toml(self.effective)

    def write_settings(self, folder: Path, file: Path | None = None) -> None:
        """Write ``effective.toml`` into a run's folder, or to `file`, which is renamed to it later.

        Code that the settings name was trusted for this run, so the folder's files may name it from now on.
        """
        write_text(file or folder / "effective.toml", self.effective_toml)
        trust_written(folder, self.effective)

    def where(self, key: Key) -> str:
        """Return how a message names a pass by the key of its table: where an option said it, if one did."""
        return self.run.where(key) if key in self.run.called else dotted(key)

    def rows(self) -> list[list[str]]:
        """Return the effective-settings table: name, default, file, override, effective."""
        defaults = Settings().model_dump(mode="json")
        defaults["passes"] = {title: type(step).defaults() for title, step in self.passes}
        return self.run.rows(defaults, self.effective)

    def fork(self, weights: "Weights | None" = None) -> Self:
        """Return the same session with nothing loaded yet, with other weights if they are named."""
        fork = copy.copy(self)
        for name in ("settings", "denoiser", "graph"):
            vars(fork).pop(name, None)
        fork._weights = weights or self._weights
        return fork

    def with_run(self, run: RunFile) -> Self:
        """Return a fork whose run file says something else of the search or the bank; the passes stay these."""
        fork = self.fork()
        vars(fork).pop("space", None)
        fork.run = run
        fork._check_names()
        return fork

    def with_passes(self, passes: Sequence[tuple[str, Pass]]) -> Self:
        """Return a fork with other passes."""
        fork = self.fork()
        vars(fork)["passes"] = list(passes)
        return fork

    def with_recipe(self, recipe: Given) -> Self:
        """Return a fork with a recipe in place of every quantize pass. Raises `Q2Error` for another denoiser's."""
        if isinstance(recipe, str | Path):
            step = Quantize(by="recipe", recipe=Path(recipe).absolute())
        else:
            if isinstance(recipe, Recipe):
                recipe.check(self.outline.choices, self.shapes.label)
            layers = recipe.layers if isinstance(recipe, Recipe) else recipe
            parts_first = sorted(layers, key=lambda name: "#" not in name)
            rules = {name: str(layers[name]) for name in parts_first}
            calibration = recipe.calibration if isinstance(recipe, Recipe) else ""
            step = Quantize(by="name", rules=rules, calibration=calibration)
        place = next((i for i, each in enumerate(self.passes) if each[1].name == QUANTIZE), len(self.passes))
        head, tail = self.passes[:place], [each for each in self.passes[place:] if each[1].name != QUANTIZE]
        fork = self.with_passes([*head, (QUANTIZE, step), *tail])
        fork.applied = recipe if isinstance(recipe, Recipe) else None
        return fork

    def packed(self) -> "tuple[RunFile, Weights | None, list[tuple[str, str, Table]]]":
        """Return what another process makes the same session of, with `unpacked`."""
        return self.run, self._weights, [(title, step.name, step.to_table()) for title, step in self.passes]

    @classmethod
    def unpacked(cls, run: RunFile, weights: "Weights | None", passes: Sequence[tuple[str, str, Table]]) -> Self:
        """Return the session that `packed` was asked of, with nothing loaded, and silent."""
        session = cls(run).fork(weights)
        load_pass = session.plugins.of(PASSES).load
        return session.with_passes(
            [(title, load_pass(name).from_table(table, dotted)) for title, name, table in passes]
        )

    def of_saved(self) -> Self:
        """Return a fork without the transforms whose results a saved folder has: all but that of activations."""
        kept = [each for each in self.passes if not is_transform(each[1]) or each[1].name == QuantizeActivations.name]
        return self.with_passes(kept)

    def create_denoiser(self) -> "Denoiser":
        """Return the run's denoiser, nothing of it loaded. Raises `ConfigError`."""
        from q2.denoisers import device_of, load

        if self.settings.model.given:
            with self.at("model"):
                raise ConfigError("the run file is about a module; q2 transform, q2 train and q2 search take it")
        wanted = self.settings.denoiser
        if wanted.name:
            with self.at("denoiser", "name"):
                self.plugins.of(DENOISERS).load(wanted.name)
        with self.at("denoiser", "device"):
            device_of(wanted.device)
        with self.at("denoiser", self._denoiser_key):
            return load(**wanted.model_dump(), plugins=self.plugins)

    @cached_property
    def denoiser(self) -> "Denoiser":
        """The run's denoiser, its model loaded. Raises `ConfigError`."""
        denoiser = self.create_denoiser()
        with self.at("denoiser", self._denoiser_key):
            _ = denoiser.model
        return denoiser

    def load_pipeline(self) -> Any:
        """Return the diffusers pipeline around the denoiser. Raises `ConfigError`."""
        with self.at("denoiser", self._denoiser_key):
            return self.denoiser.pipeline()

    @cached_property
    def graph(self) -> "Graph":
        """The loaded denoiser, traced. Raises `ConfigError`."""
        return self._traced(self.denoiser)

    @cached_property
    def shapes(self) -> "Denoiser":
        """The denoiser on meta: every shape and name, and no weights to wait for."""
        return self.fork("meta").denoiser

    @cached_property
    def outline(self) -> "Graph":
        """The denoiser on meta, traced. Raises `ConfigError`."""
        return self._traced(self.shapes)

    @cached_property
    def space(self) -> "Space":
        """The search space that the run file says. Raises `ConfigError`."""
        return self.space_of(self.outline)

    def space_of(self, graph: "Graph") -> "Space":
        """Return the search space of a graph; with weights loaded, layers with the same weights are tied.

        Raises `ConfigError` for options, layers or a reduced space that do not fit the graph.
        """
        from q2.search.space import Space

        wanted, options = self.settings.search, self.settings.search.options or self.settings.bank.options
        with self.at("search"):
            space = Space.of_graph(graph, options, ties=wanted.ties).limited(wanted.layers)
        reduced = self.reduced_space()
        if reduced is None:
            return space
        with self.at("search", "space"):
            try:
                return reduced.applied(space, self.create_denoiser().label)
            except ConfigError as error:
                raise ConfigError(f"{' and '.join(wanted.space.files)}: {error}") from error

    def reduced_space(self) -> "ReducedSpace | None":
        """Return what the run file's reduced spaces let layers and units have together. Raises `ConfigError`."""
        from q2.search.reduced import ReducedSpace

        with self.at("search", "space"):
            found = [ReducedSpace.load(file) for file in self.settings.search.space.files]
            return reduce(ReducedSpace.united, found) if found else None

    def context(self, bank: "Bank | None" = None) -> PassContext:
        """Return what passes may use beside the graph."""
        settings = self.settings
        return PassContext(
            self.plugins, self.denoiser, settings.seed, self.progress, settings.prec, bank, show=self.show
        )

    def with_rows(self, ctx: PassContext, only: Callable[[Pass], bool] = lambda step: True) -> PassContext:
        """Return a context with rows of inputs, where a pass that `only` picks needs them; what is missing is drawn.

        No pass may have changed the denoiser yet.
        """
        wants = any(kind.needs_rows for _, step in self.passes if only(step) for kind in self._kinds(step))
        if not wants or self.settings.denoiser.weights == "meta":
            return ctx
        from q2.session.calibrate import find_rows, rows_folder

        return replace(ctx, rows=find_rows(self, rows_folder(self)))

    def needs_weights(self, step: Pass) -> bool:
        """Return whether a pass, or one that it requires, reads values of weights, or what layers read."""
        return any(kind.needs_weights or kind.needs_rows for kind in self._kinds(step))

    def _kinds(self, step: Pass) -> list[type[Pass]]:
        """Return the class of a pass, and those of the passes that it requires."""
        load = self.plugins.of(PASSES).load
        return [type(step), *(load(name) for name in all_required(type(step), {}, self.plugins))]

    @property
    def is_quantizing(self) -> bool:
        """Whether the run has a pass that uses the bank."""
        return any(step.name == QUANTIZE for _, step in self.passes)

    def _traced(self, denoiser: "Denoiser") -> "Graph":
        from q2.graph import trace

        with self.at("denoiser", self._denoiser_key):
            return trace(denoiser.model, denoiser.example_inputs())

    @property
    def _denoiser_key(self) -> str:
        return next((key for key in ("checkpoint", "model") if getattr(self.settings.denoiser, key)), "name")

    def _check_names(self) -> None:
        """Raise `ConfigError`, with the key, for a denoiser, engine, strategy, metric or option that there is not."""
        plugins, search = self.plugins, self.settings.search
        strategy = str(search.strategies.get(search.strategy, {}).get("strategy", search.strategy))
        offered: dict[Key, tuple[Catalogue[Any], Sequence[str]]] = {
            ("search", "engine", "name"): (plugins.of(ENGINES), [search.engine.name]),
            ("search", "strategy"): (plugins.of(STRATEGIES), [strategy]),
            ("search", "evaluation", "metrics"): (plugins.of(METRICS), search.evaluation.metrics),
        }
        if not self.settings.model.given:  # a module's have names of their own
            offered |= {("search", "metrics", name): (plugins.of(METRICS), [name]) for name in search.metrics}
        if self.settings.denoiser.name:
            offered[("denoiser", "name")] = (plugins.of(DENOISERS), [self.settings.denoiser.name])
        for key, (catalogue, names) in offered.items():
            for name in names:
                with self.at(*key):
                    catalogue.find(name)
        for title, step in self.passes:
            if isinstance(step, Quantize):
                with self.at("passes", title):
                    step.check_options(plugins.of(QUANTIZERS))
        keys: dict[Key, tuple[str, ...]] = {("bank", "options"): self.settings.bank.options}
        keys[("search", "options")] = search.options
        keys |= {("search", "layers", pattern): options for pattern, options in search.layers.items()}
        for key, options in keys.items():
            for text in options:
                with self.at(*key):
                    known_option(text, plugins.of(QUANTIZERS))


def run_folder(out: Path | None, name: str, called: str = "--out ") -> Path:
    """Return where a run writes: `out`, or a folder named after the time. Raises `ConfigError`; see `usable`."""
    return usable(out or Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}", called)


def usable(folder: Path, called: str) -> Path:
    """Return `folder` if it can be written to. Raises `ConfigError`, after the argument's name, if it cannot."""
    for part in (folder, *folder.parents):
        if part.exists() and not part.is_dir():
            raise ConfigError(f"{called}{folder}: {part} is a file, expected a folder")
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{called}{folder}: {there} cannot be written to")
    return folder
