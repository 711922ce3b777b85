"""The command line: parse, call the functions of `q2.session`, print. Heavy imports live inside the commands."""

import gc
import sys
from typing import Annotated

import typer

from q2.commands.evaluate import evaluate
from q2.commands.export import export
from q2.commands.importing import importing
from q2.commands.listing import listing, settings
from q2.commands.modules import train
from q2.commands.new import new
from q2.commands.plan import plan
from q2.commands.plots import plots
from q2.commands.predictor import predictor
from q2.commands.prepare import bank, calibrate
from q2.commands.report import report
from q2.commands.sample import sample
from q2.commands.screen import shared
from q2.commands.search import search
from q2.commands.transform import transform
from q2.commands.trials import trials
from q2.errors import PassError, Q2Error

__all__ = ["app", "main"]

INTERRUPTED = 130
COLLECTED_AFTER = 20_000
"""Objects. Python's 700 makes it look through the libraries' half a million again and again: a fifth of a short run."""

app = typer.Typer(
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
app.add_typer(importing, name="import")
app.add_typer(new, name="new")
for command in (transform, sample, evaluate, bank, calibrate, export, plan, report, train):
    app.command()(shared(command))


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Let run files name code, and trust those in their folder from then on.")
    ] = False,
) -> None:
    """Read the options that stand before a command; `main` looks for ``--debug`` itself."""
    if trust:
        import os

        from q2.trust import REMEMBER, VARIABLE

        os.environ[VARIABLE] = REMEMBER
    if version:
        from q2.version import version as installed

        print(f"q2 {installed()}")
        raise typer.Exit


def main() -> None:
    """Run the command line: exit 2 for the user's mistake, 1 for ours, 130 after Ctrl-C."""
    gc.set_threshold(COLLECTED_AFTER)
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
