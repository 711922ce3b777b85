"""The command line: parse, call `q2.api` and friends, print. Heavy imports live inside the commands."""

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from q2.errors import PassError, Q2Error

if TYPE_CHECKING:
    from q2.config import RunFile
    from q2.passes import TextTable
    from q2.progress import Progress
    from q2.runs import Step

__all__ = ["app", "main"]

T = TypeVar("T")
DEFAULT = "digits-dit.toml"
INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find, apply and explain mixed-precision quantization of diffusion denoisers.",
)
listing = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List what a run file can name.")
settings = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the settings of a run.")
app.add_typer(listing, name="list")
plots = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Draw a denoiser.")
app.add_typer(settings, name="config")
app.add_typer(plots, name="plot")

Config = Annotated[str, typer.Option("--config", help="A run file, or the name of a shipped one.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override one setting; repeatable.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read the options that every command shares."""
    context.obj = debug
    if version:
        from importlib.metadata import version as installed

        print(f"q2 {installed('q2')}")
        raise typer.Exit


@app.command()
def transform(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Apply this recipe instead of the run file's rules.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for what the run writes.", show_default="runs/…")] = None,
    verify_each: Annotated[bool, typer.Option("--verify-each", help="Check the graph after every pass.")] = False,
) -> None:
    """Trace a denoiser, run its passes, and compare its images with full precision."""
    run = _load(config, override, recipe)
    from q2.runs import prepare, run_folder
    from q2.runs import transform as start

    plan = prepare(run)
    folder = run_folder(out, plan.title)
    print(f"q2 transform · {run.name} · {folder}\n")
    _table(plan.rows(), ["setting", "default", "file", "override", "effective"])
    with _drawn_progress() as progress:
        outcome = start(plan, folder, verify_each=verify_each, progress=progress, show=_step)
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    if outcome.comparison:
        print(f"look at: {folder / 'samples.png'}")
    print(
        f"next:    q2 transform --config {config} --recipe {folder / 'recipe.toml'} --set seed={plan.settings.seed + 1}"
    )


@app.command()
def bank(
    config: Config = DEFAULT,
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bank.", show_default="bank/…")] = None,
) -> None:
    """Fit every option of every layer once, so that quantize need not; a build that was stopped goes on."""
    run = _load(config, override)
    from q2.runs import make_bank, prepare

    start = time.perf_counter()
    with _drawn_progress() as progress:
        report = make_bank(prepare(run), out, progress)
    print(f"bank {time.perf_counter() - start:.1f} s   {report.summary}\nwritten: {report.bank.folder}/")
    print(f"next:    q2 transform --config {config} --set bank.path={report.bank.folder}")


@plots.command()
def dag(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Colour by this recipe instead of the run file's rules.")] = "",
    block: Annotated[str, typer.Option(help="Zoom in on one block: 3, or up_blocks.1.")] = "",
    out: Annotated[Path, typer.Option(help="The picture to write, .svg or .png.")] = Path("dag.svg"),
) -> None:
    """Draw the flow graph by units, or one block by layers; no weights are loaded."""
    run = _load(config, override, recipe)
    from q2.runs import plot_dag, prepare

    print(f"{out}: {plot_dag(prepare(run), out, block)}")


@settings.command()
def show(config: Config = DEFAULT, override: Set = None) -> None:
    """Print every setting: its default, what the file says, what is overridden, and what holds."""
    from q2.runs import prepare

    _table(prepare(_load(config, override)).rows(), ["setting", "default", "file", "override", "effective"])


@listing.command()
def passes() -> None:
    """List the passes, with the plugin each comes from."""
    _catalogue("passes")


@listing.command()
def quantizers() -> None:
    """List the quantizers, with the plugin each comes from."""
    _catalogue("quantizers")


@listing.command()
def denoisers() -> None:
    """List the denoisers, with the plugin each comes from."""
    _catalogue("denoisers")


@listing.command()
def plugins() -> None:
    """List the plugins that were found, the broken ones with their error."""
    from q2.plugins import Plugins

    rows = [[p.name, p.version, p.origin, p.error or ", ".join(p.offers)] for p in Plugins().infos]
    _table(rows, ["plugin", "version", "from", "offers, or its error"])


@listing.command()
def configs() -> None:
    """List the run files that come with q2."""
    from q2.config import RunFile, shipped

    _table([[name, RunFile.load(name).settings.denoiser.name] for name in shipped()], ["run file", "denoiser"])


def main() -> None:
    """Run the command line: exit 2 for the user's mistake, 1 for ours, 130 after Ctrl-C."""
    try:
        app()
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _say("stopped; nothing is half-written", INTERRUPTED)
        raise
    except Q2Error as error:
        if "--debug" in sys.argv:
            raise
        sys.exit(_say(str(error), 1 if isinstance(error, PassError) and error.ours else 2))
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        text = " ".join(str(error).split())
        sys.exit(_say(f"internal error: {type(error).__name__}: {text} (q2 --debug … shows where)", 1))


def _say(line: str, code: int) -> int:
    print(f"q2: {line}", file=sys.stderr)
    return code


def _load(config: str, override: list[str] | None, recipe: str = "") -> "RunFile":
    from q2.config import RunFile

    run = RunFile.load(config, override or ())
    return run.with_recipe(Path(recipe)) if recipe else run


def _catalogue(kind: str) -> None:
    from q2.plugins import Plugins

    catalogue = getattr(Plugins(), kind)
    rows = []
    for name in catalogue:
        owners = catalogue.owners(name)
        try:
            summary = (catalogue.load(name).__doc__ or "").strip().split("\n")[0]
        except Q2Error as error:
            summary = str(error)
        rows.append([name, ", ".join(owners), summary])
    _table(rows, ["name", "from", "what it is"])


def _step(step: "Step") -> None:
    print(f"{step.title:<12} {step.seconds:6.1f} s   {step.summary}\n")
    for table in step.tables:
        _text_table(table)


def _text_table(table: "TextTable") -> None:
    limit = 40
    if not table.rows:
        return
    _table([list(row) for row in table.rows[:limit]], list(table.headers))
    if len(table.rows) > limit:
        print(f"  … {len(table.rows) - limit} more rows in report.json\n")


def _table(rows: list[list[str | int | float]] | list[list[str]], headers: list[str]) -> None:
    from tabulate import tabulate

    text = tabulate(rows, headers=headers, tablefmt="simple", floatfmt=".4g", disable_numparse=[0])
    print("\n".join(f"  {line}" for line in text.splitlines()) + "\n")


@contextmanager
def _drawn_progress() -> "Iterator[Progress]":
    """Yield a progress function that draws bars on a terminal and is silent elsewhere."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:

        def draw(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
            bar = bars.add_task(label, total=total)
            try:
                for item in items:
                    yield item
                    bars.advance(bar)
            finally:
                bars.remove_task(bar)

        yield draw
