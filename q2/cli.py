"""The command line: parse, call the functions of `q2.session`, print. Heavy imports live inside the commands."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, check_recipe, opened, print_table
from q2.commands.export import export
from q2.commands.listing import listing, settings
from q2.commands.plan import plan
from q2.commands.plots import plots
from q2.commands.predictor import predictor
from q2.commands.report import report
from q2.commands.sample import sample
from q2.commands.search import search
from q2.commands.trials import trials
from q2.errors import PassError, Q2Error
from q2.search.kinds import METRICS

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find, apply and explain mixed-precision quantization of diffusion denoisers.",
)
app.add_typer(listing, name="list")
app.add_typer(settings, name="config")
app.add_typer(plots, name="plot")
app.add_typer(search, name="search")
app.add_typer(trials, name="trials")
app.add_typer(predictor, name="predictor")
app.command()(sample)
app.command()(export)
app.command()(plan)
app.command()(report)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Read the options that every command shares."""
    context.obj = debug
    if version:
        from q2.version import version as installed

        print(f"q2 {installed()}")
        raise typer.Exit


@app.command()
def transform(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Apply this recipe instead of the run file's rules.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for what the run writes.", show_default="runs/…")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the pipeline, its weights packed, into this folder.")] = None,
    verify_each: Annotated[bool, typer.Option("--verify-each", help="Check the graph after every pass.")] = False,
) -> None:
    """Trace a denoiser, run its passes, and compare its images with full precision."""
    with opened(config, override, recipe) as session:
        from q2.session.session import run_folder

        folder = run_folder(out, session.title)
        from q2.session.checks import check_passes
        from q2.session.transform import transform as start

        check_passes(session)
        print(f"q2 transform · {session.run.name} · {folder}\n")
        print_table(session.rows(), ["setting", "default", "file", "override", "effective"])
        outcome = start(session, folder, packed=save, verify_each=verify_each)
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")
    if outcome.comparison:
        print(f"look at: {folder / 'samples.png'}")
    seed = session.settings.seed + 1
    print(f"next:    q2 transform --config {config} --recipe {folder / 'recipe.toml'} --set seed={seed}")


@app.command()
def bank(
    config: Config = DEFAULT,
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bank.", show_default="bank/…")] = None,
) -> None:
    """Fit every option of every layer once, so that quantize need not; a build that was stopped goes on."""
    start = time.perf_counter()
    with opened(config, override) as session:
        from q2.session.bank import build_bank

        report = build_bank(session, out)
    print(f"bank {time.perf_counter() - start:.1f} s   {report.summary}\nwritten: {report.bank.folder}/")
    print(f"next:    q2 transform --config {config} --set bank.path={report.bank.folder}")


@app.command()
def calibrate(
    config: Config = DEFAULT,
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the rows.", show_default="calibration/…")] = None,
) -> None:
    """Denoise a few images and keep rows of what every layer reads; a calibration that was stopped goes on."""
    start = time.perf_counter()
    with opened(config, override) as session:
        from q2.session.calibrate import calibrate as collect
        from q2.session.session import run_folder

        report = collect(session, run_folder(out, "") if out else None)
    print(f"calibrate {time.perf_counter() - start:.1f} s   {report.summary}\nwritten: {report.store.folder}/")
    path = f" --set calibration.path={report.store.folder}" if out else ""
    print(f"next:    q2 bank --config {config} --set bank.calibrated=true{path}")


@app.command()
def evaluate(
    recipe: Annotated[str, typer.Option(help="The recipe, a TOML file.")],
    config: Config = DEFAULT,
    override: Set = None,
    metric: Annotated[list[str] | None, typer.Option(help="A metric beside the run's; repeatable.")] = None,
    out: Annotated[Path | None, typer.Option(help="Keep full precision's images here, for the next.")] = None,
) -> None:
    """Measure one given recipe with the metrics of a search."""
    with opened(config, override) as session:
        from q2.session.session import run_folder

        folder = run_folder(out, "") if out else None
        check_recipe(recipe)  # what can be said before torch is imported
        for name in metric or ():
            session.plugins.of(METRICS).find(name)
        from q2.session.evaluate import evaluate as start

        trial = start(session, recipe, metric or (), folder)
    rows = [[name, trial.shown(name)] for name in trial.metrics]
    print_table(rows, ["metric", f"{recipe}, {trial.fidelity}, {trial.seconds:.1f} s"])


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
