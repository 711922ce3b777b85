"""``q2 list`` and ``q2 config``: what a run file can name, and what one says."""

from typing import Any

import typer

from q2.commands.console import DEFAULT, Config, Set, opened, print_table
from q2.denoisers.kinds import DENOISERS
from q2.errors import Q2Error
from q2.exporters.kinds import EXPORTERS
from q2.plugins import Kind, Plugins
from q2.quant.kinds import QUANTIZERS
from q2.search.kinds import ENGINES, METRICS, STRATEGIES

__all__ = ["listing", "settings"]

listing = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List what a run file can name.")
settings = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the settings of a run.")


@settings.command()
def show(config: Config = DEFAULT, override: Set = None) -> None:
    """Print every setting: its default, what the file says, what is overridden, and what holds."""
    with opened(config, override) as session:
        print_table(session.rows(), ["setting", "default", "file", "override", "effective"])


@listing.command()
def passes() -> None:
    """List the passes, with the plugin each comes from."""
    from q2.passes.kinds import PASSES

    _catalogue(PASSES)


@listing.command()
def quantizers() -> None:
    """List the quantizers, with the plugin each comes from."""
    _catalogue(QUANTIZERS)


@listing.command()
def denoisers() -> None:
    """List the denoisers, with the plugin each comes from."""
    _catalogue(DENOISERS)


@listing.command()
def models() -> None:
    """List the modules that ship with q2 beside its denoisers, and the data that they were trained on."""
    from q2.models.imported import MODELS

    print_table([[name, each.factory, each.data] for name, each in MODELS.items()], ["model", "factory", "data"])


@listing.command()
def exporters() -> None:
    """List the formats that q2 export writes, with the plugin each comes from."""
    _catalogue(EXPORTERS)


@listing.command()
def metrics() -> None:
    """List the metrics that a target can name, with the plugin each comes from."""
    _catalogue(METRICS)


@listing.command()
def strategies() -> None:
    """List the strategies of q2 search, with the plugin each comes from."""
    _catalogue(STRATEGIES)


@listing.command()
def engines() -> None:
    """List the engines of q2 search, with the plugin each comes from."""
    _catalogue(ENGINES)


@listing.command()
def plugins() -> None:
    """List the plugins that were found, the broken ones with their error."""
    rows = [[p.name, p.version, p.origin, p.error or ", ".join(p.offers)] for p in Plugins().infos]
    print_table(rows, ["plugin", "version", "from", "offers, or its error"])


@listing.command()
def configs() -> None:
    """List the run files that come with q2."""
    from q2.config import RunFile, shipped

    found = [(name, RunFile.load(name).settings) for name in shipped()]
    print_table([[name, each.denoiser.name or each.model.name] for name, each in found], ["run file", "about"])


def _catalogue(kind: Kind[Any]) -> None:
    catalogue = Plugins().of(kind)
    rows = []
    for name in catalogue:
        owners = catalogue.owners(name)
        try:
            summary = catalogue[name].summary()
        except Q2Error as error:
            summary = str(error)
        rows.append([name, ", ".join(owners), summary])
    print_table(rows, ["name", "from", "what it is"])
