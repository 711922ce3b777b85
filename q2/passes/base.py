"""What a pass is: a frozen dataclass whose fields are its options, and the report it hands to people."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from q2.config import Key, Table, validate
from q2.errors import ConfigError, Q2Error, did_you_mean
from q2.graph import Fact
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Option
from q2.tables import drawn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from q2.denoisers import Ask, Denoiser
    from q2.graph import Choice, Graph, WeightLayer
    from q2.models.model import Model
    from q2.passes.watching import Observer, Watched
    from q2.quant.bank import Bank
    from q2.quant.calibration.rows import RowStore

__all__ = [
    "AnalysisPass",
    "Change",
    "Pass",
    "PassContext",
    "Report",
    "Step",
    "TextTable",
    "TransformPass",
    "at_layer",
    "options_in_place",
    "select",
    "weight_of",
]


@dataclass(frozen=True)
class TextTable:
    """A table: column heads and rows; numbers are formatted when the table is drawn, the first 20 rows as text."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str | int | float, ...], ...]
    title: str = ""

    def __str__(self) -> str:
        return drawn(self.headers, self.rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table as a notebook shows it."""
        return drawn(self.headers, self.rows, "html")


@dataclass(frozen=True)
class Step:
    """Something a run did: one line, and tables."""

    title: str
    seconds: float
    summary: str
    tables: tuple[TextTable, ...] = ()


@dataclass(frozen=True)
class Report:
    """The report of a pass: one line, tables, the same as plain data for ``report.json``, and pictures."""

    summary: str
    tables: tuple[TextTable, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Change(Report):
    """What a transform pass did: its report, the layers it changed, and the facts that stay true all the same."""

    changed: tuple[str, ...] = ()
    preserves: frozenset[Fact[Any]] = frozenset()


@dataclass(frozen=True)
class PassContext:
    """What a pass may use besides the graph and its own options."""

    plugins: Plugins = field(default_factory=Plugins)
    denoiser: "Denoiser | None" = None
    seed: int = 0
    progress: Progress = silent
    prec: int = 16
    """Bits of a parameter of a quantizer, and of a weight that is not quantized."""
    bank: "Bank | None" = None
    model: "Model | None" = None
    """The module that the graph is of, with its data, where the run is about one."""
    show: Callable[[Step], None] = lambda step: None
    """Tells people what a long pass is about to do, before its report."""
    rows: "RowStore | None" = None
    """Rows of what layers read at full precision, for passes with `needs_rows`."""

    def need_denoiser(self, why: str) -> "Denoiser":
        """Return the denoiser. Raises `Q2Error` when the graph was traced from a bare model."""
        if self.denoiser is None:
            raise Q2Error(f"{why} needs a denoiser; pass one to run_passes(graph, passes, denoiser=...)")
        return self.denoiser

    def watch(
        self,
        graph: "Graph",
        observers: "Mapping[str, Observer]",
        *,
        images: int = 8,
        steps: int = 0,
        batch: int = 100,
        ask: "Ask | None" = None,
    ) -> "Watched":
        """Denoise `images` images in `steps` steps (0: the protocol's), and let observers see what nodes compute.

        `observers` are functions by pattern, as in ``"*.attn1.to_q"``, that are given a `Seen` whenever one of these
        nodes has computed; see `q2.passes.watching`. Nothing is kept but what they keep. A module is run on `images`
        samples of its training data, a bare graph on its example inputs. Raises `Q2Error` for a pattern that matches no
        node, with the nearest name.
        """
        from q2.passes.watching import watch

        return watch(graph, self, observers, images=images, steps=steps, batch=batch, ask=ask)

    def need_bank(self, why: str) -> "Bank":
        """Return the bank, where options are fitted. Raises `Q2Error` when the run has none."""
        if self.bank is None:
            raise Q2Error(f"{why} needs a bank; q2 bank makes one, and run_passes(graph, passes, bank=...) takes one")
        return self.bank

    def need_rows(self, why: str) -> "RowStore":
        """Return rows of what layers read at full precision. Raises `Q2Error` when the run has none."""
        if self.rows is None:
            raise Q2Error(
                f"{why} needs rows of inputs; q2 calibrate collects them, and run_passes(graph, passes, rows=...) "
                "takes them"
            )
        return self.rows


@dataclass(frozen=True)
class Pass(ABC):
    """A step over the graph. Subclass `AnalysisPass` or `TransformPass`, as a frozen dataclass."""

    name: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()
    needs_weights: ClassVar[bool] = False
    """Whether the pass reads values of weights; a run with weights on meta leaves it out."""
    needs_rows: ClassVar[bool] = False
    """Whether the pass reads `PassContext.rows`; what is missing is drawn before the first pass of a run."""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def check_class(cls) -> None:
        """Raise `Q2Error` for a subclass that is not well formed; called when a plugin's pass is loaded."""
        options = {entry.name for entry in fields(cls)}
        for kind in cls.__mro__:
            for name, found in inspect.get_annotations(kind).items() if issubclass(kind, Pass) else ():
                if name not in options and "ClassVar" not in str(found):
                    raise Q2Error(f"has the option {name!r}, but {kind.__name__} lacks its @dataclass(frozen=True)")
        if not issubclass(cls, AnalysisPass | TransformPass):
            raise Q2Error(f"is the class {cls.__name__}, which is neither an AnalysisPass nor a TransformPass")
        _check_all(cls, "requires", str, "names of passes")
        if issubclass(cls, AnalysisPass):
            _check_all(cls, "provides", Fact, "facts")

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Build the pass from its TOML table; the fields are the keys. Raises `ConfigError`, naming the key."""
        return validate(cls, table, where)

    def to_table(self) -> Table:
        """Return every option with its value, as a TOML table without empty values."""
        return _plain(asdict(self))

    @classmethod
    def defaults(cls) -> Table:
        """Return the same of the options that need not be given."""
        table: Table = {}
        for each in fields(cls):
            if each.default is not MISSING:
                table[each.name] = each.default
            elif each.default_factory is not MISSING:
                table[each.name] = each.default_factory()
        return _plain(table)

    def with_paths(self, find: Callable[[str], str]) -> Self:
        """Return the pass with every option that is a `Path` as `find` finds it."""
        options = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        found = {key: Path(find(str(value))) for key, value in options.items() if isinstance(value, Path)}
        return replace(self, **found)

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `Q2Error` if the options do not fit the graph. Called for every pass before the first one runs."""


@dataclass(frozen=True)
class AnalysisPass(Pass):
    """Learns facts and reports them; changes nothing.

    A pass that requires another finds the facts of the run's own pass of that name, with its options; where the run has
    none it is run with its defaults. A report is reused while the facts that its pass set and required are the same.
    What a pass provides and requires of full precision is measured before the first transform; run later by hand, it
    reports on the transformed model, and the fact stays that of full precision.
    """

    provides: ClassVar[tuple[Fact[Any], ...]] = ()

    @abstractmethod
    def run(self, graph: "Graph", ctx: PassContext) -> Report:
        """Put facts into ``graph.facts`` and return the report."""


@dataclass(frozen=True)
class TransformPass(Pass):
    """Changes the graph or its model in place and says what it changed.

    Transforms run wherever a run file is used, in file order: in a transform run, a sample, an export and a search.
    """

    per_recipe: ClassVar[bool] = False
    """Whether what the pass does depends on the options in place.

    In a search a pass for which it is false runs once, on the full-precision model, before any recipe is applied; it
    must leave the weights of weight layers alone there, since the bank was fitted to them. One for which it is true
    runs after every recipe's options, and is undone before the next; in a run file it stands behind `quantize`.
    """

    @abstractmethod
    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Change the graph and return which layers changed and which facts still hold."""

    def undo(self, graph: "Graph", ctx: PassContext) -> None:
        """Take back what a search cannot take back itself, before the next recipe; for `per_recipe` passes.

        A search restores parameters and buffers other than the weights of weight layers, which modules there are, and
        the graph's rewrites. A pass that changes weights of weight layers, or anything else, restores these here.
        """


def _plain(options: Mapping[str, Any]) -> Table:
    table = {key: value for key, value in options.items() if value is not None}
    return {key: str(value) if isinstance(value, Path) else value for key, value in table.items()}


def _check_all(kind: type[Pass], attribute: str, wanted: type, what: str) -> None:
    value = getattr(kind, attribute)
    if not isinstance(value, tuple) or not all(isinstance(each, wanted) for each in value):
        raise Q2Error(f"is the class {kind.__name__}, whose {attribute!r} is {value!r}, expected a tuple of {what}")


class LayerError(Exception):
    """Carries the layer at which a pass failed; the manager turns it into the message."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


@contextmanager
def at_layer(name: str) -> Iterator[None]:
    """Raise any error inside as a `LayerError`, which names the layer."""
    try:
        yield
    except LayerError:
        raise
    except Exception as error:
        raise LayerError(name) from error


def weight_of(module: "nn.Module") -> "Tensor":
    """Return a weight layer's weight (O, I, ...), without gradient. Raises `Q2Error` if it has no values (meta)."""
    from torch import Tensor

    weight = module.weight
    if not isinstance(weight, Tensor) or weight.is_meta:
        raise Q2Error("the layer has no weights (device meta)")
    return weight.detach()


def options_in_place(graph: "Graph") -> "Iterator[tuple[Choice, Option]]":
    """Yield every choice with the option in place. A layer that was quantized as a whole, by hand, is one choice."""
    from q2.graph import Choice
    from q2.quant import parts_of

    for choice in graph.choices.values():
        parts = parts_of(choice.layer.module)
        mine = next((part for part in parts if part.channels == choice.channels), None)
        if mine is not None:
            yield choice, mine.option
        elif parts[0].option.is_none:
            yield choice, parts[0].option
        elif choice.name == choice.layer.name:
            yield Choice(choice.name, choice.layer), parts[0].option


def select(layers: "Mapping[str, WeightLayer]", pattern: str) -> Sequence[str]:
    """Return the names that match a shell-style `pattern`. Raises `ConfigError` with the nearest name if none does."""
    names = [name for name in layers if fnmatchcase(name, pattern)]
    if not names:
        raise ConfigError(f"no layer matches {pattern!r}{did_you_mean(pattern, layers)}")
    return names
