"""What a notebook needs; `import q2` re-exports it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from q2.config import DEFAULT, RunFile
from q2.denoisers import Ask, Denoiser
from q2.denoisers import load as denoiser
from q2.exporters import Exported
from q2.graph import Graph, trace
from q2.passes import Pass, PassContext, PassManager, PassResult, Step, TextTable
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.quant.bank import Bank
from q2.search.trials.trial import Trial
from q2.session.bank import BankReport, build_bank
from q2.session.evaluate import evaluate
from q2.session.export import export
from q2.session.plan import plan_search
from q2.session.sample import Order, Pictures, pictures
from q2.session.search import SearchResult, search
from q2.session.session import Given, Session, quiet, run_folder
from q2.session.transform import Transformed
from q2.session.transform import transform as _transform

__all__ = ["Denoiser", "Graph", "Recipe", "Run", "denoiser", "open", "run_passes", "trace", "transform"]


class Run(Session):
    """A session with all that can be done with it, as a notebook wants it. Made by `open`.

    Each method does what the command of its name does, and gives an object in place of printed lines. `sample` writes
    nothing, and `transform` and `evaluate` write nothing unless they are given a folder.
    """

    @property
    def units(self) -> TextTable:
        """The units of the denoiser's flow graph: their layers, which are chosen together."""
        rows = [(unit.name, len(unit.layers), " ".join(unit.layers[:3])) for unit in self.outline.units()]
        return TextTable(("unit", "layers", "among them"), tuple(rows))

    @property
    def layers(self) -> TextTable:
        """The weight layers: type, weights and multiply-accumulates."""
        rows = [(name, each.type, each.weights, each.macs) for name, each in self.outline.weight_layers.items()]
        return TextTable(("layer", "type", "weights", "MACs"), tuple(rows))

    def bank(self, folder: str | Path | None = None) -> BankReport:
        """Fit every option of every layer once, or what is missing; see ``q2 bank``."""
        return build_bank(self, Path(folder) if folder else None)

    def plan(self) -> list[Step]:
        """Return what a search would take: space, bank, time, memory, disk. Raises what the search would stop at."""
        return plan_search(self)

    def search(self, folder: str | Path | None = None) -> SearchResult:
        """Search for a recipe; stop it when you like and call it again with the same folder."""
        return search(self, run_folder(Path(folder) if folder else None, f"{self.title}-search"))

    def transform(self, recipe: Given | None = None, folder: str | Path | None = None) -> Transformed:
        """Run the passes, with a recipe in place of the run file's rules if one is given; see ``q2 transform``."""
        return _transform(self._with(recipe), Path(folder) if folder else None)

    def evaluate(self, recipe: Given, metrics: Sequence[str] = (), folder: str | Path | None = None) -> Trial:
        """Measure a recipe with the run's metrics, and with those named."""
        return evaluate(self, recipe, metrics, Path(folder) if folder else None)

    def sample(  # noqa: PLR0917 (as the command has them)
        self,
        prompts: Sequence[str] = (),
        classes: Sequence[int] = (),
        n: int = 8,
        seed: int | None = None,
        steps: int | None = None,
        recipe: Given | None = None,
        compare: bool = False,
    ) -> Pictures:
        """Draw `n` images with the quantized denoiser; image i is the same in any batch."""
        seed = self.settings.seed if seed is None else seed
        order = Order(Ask(tuple(prompts), tuple(classes)), n=n, seed=seed, steps=steps, compare=compare)
        return pictures(self._with(recipe), order)

    def export(self, to: str, out: str | Path, recipe: Given | None = None) -> Exported:
        """Write the quantized denoiser in another format; see ``q2 export``."""
        return export(self._with(recipe), to, Path(out))

    def _with(self, recipe: Given | None) -> Session:
        """Return the session with a recipe in place of every quantize pass."""
        return self if recipe is None else self.with_recipe(recipe)


def open(  # noqa: A001 (q2.open is what a reader expects)
    config: str | Path | None = None,
    overrides: Mapping[str, object] | Sequence[str] = (),
    *,
    denoiser: str = "",
    checkpoint: str | Path = "",
    progress: Progress = silent,
) -> Run:
    """Open a run file, or a denoiser by name or checkpoint, and return what can be done with it; nothing is loaded yet.

    `overrides` are dotted keys with their values, or ``a.b=c`` as on the command line. Without a `config`, a shipped
    run file of the denoiser's name is taken, else an empty one. Raises `ConfigError`.

    >>> run = open("digits-dit.toml", {"search.trials": 60})
    >>> run.settings.search.trials, len(run.units.rows)
    (60, 13)
    """
    given = {"denoiser.name": denoiser, "denoiser.checkpoint": str(checkpoint)}
    named = {key: value for key, value in given.items() if value}
    if config is None and not named:
        config = DEFAULT
    run = RunFile.load(str(config), overrides) if config is not None else RunFile.of_denoiser(denoiser, overrides)
    return Run(run.overridden(named), progress, quiet)


def transform(
    config: str | Path = DEFAULT,
    overrides: Mapping[str, object] | Sequence[str] = (),
    out: str | Path | None = None,
) -> Transformed:
    """Run a run file as ``q2 transform`` does, silently, and write what it gives. Raises `Q2Error`."""
    run = open(config, overrides)
    return run.transform(folder=run_folder(Path(out) if out else None, run.title))


def run_passes(
    graph: Graph,
    passes: Iterable[Pass],
    *,
    denoiser: Denoiser | None = None,
    seed: int = 0,
    verify_each: bool = False,
    plugins: Plugins | None = None,
    progress: Progress = silent,
    prec: int = 16,
    bank: Bank | None = None,
) -> list[PassResult]:
    """Run `passes` over `graph` in order and return their results. Raises `Q2Error` subclasses, one line each.

    `prec` is how many bits a centroid, a scale and a zero point take; `bank` has options that need no fitting.

    >>> import q2
    >>> from q2.passes.analysis.size import Size
    >>> digits = q2.denoiser("digits-dit")
    >>> graph = q2.trace(digits.model, digits.example_inputs())
    >>> [result.report.data["avg_bits"] for result in q2.run_passes(graph, [Size()])]
    [16.0]
    """
    ctx = PassContext(plugins or Plugins(), denoiser, seed, progress, prec, bank)
    return PassManager([(step.name, step) for step in passes], ctx, verify_each).run(graph)
