"""``q2 list`` and ``q2 config``: what a run file can name, and what one says."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from q2.commands.console import DEFAULT, Config, Set, opened, paste
from q2.commands.screen import screen, shared
from q2.denoisers.kinds import DENOISERS
from q2.errors import ConfigError, Q2Error, why
from q2.exporters.kinds import EXPORTERS
from q2.plugins import Kind, Plugins
from q2.quant.kinds import QUANTIZERS
from q2.search.kinds import ENGINES, METRICS, STRATEGIES

if TYPE_CHECKING:
    from q2.plugins import Catalogue

__all__ = ["listing", "settings"]

listing = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List what a run file can name.")
settings = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the settings of a run.")
Options = Annotated[
    bool, typer.Option("--options", help="List the options of each, with their defaults and what they mean.")
]
Own = Annotated[str, typer.Option("--config", help="List what the plugins of this run file offer too.")]
Name = Annotated[str, typer.Argument(help="A shipped run file, or a path.")]


@settings.command()
@shared
def show(config: Config = DEFAULT, override: Set = None) -> None:
    """Print every setting: its default, what the file says, what is overridden, and what holds."""
    with opened(config, override) as session:
        screen().report(session.effective)
        screen().table(["setting", "default", "file", "override", "effective"], session.rows(), result=True)


@settings.command()
@shared
def cat(config: Name = DEFAULT) -> None:
    """Print a run file as it is."""
    from q2.config import RunFile, text_of

    screen().report(RunFile.load(config).file)
    screen().result(text_of(config).rstrip("\n"))


@settings.command()
@shared
def init(
    config: Name = DEFAULT,
    out: Annotated[Path, typer.Option(help="The run file to write.")] = Path("run.toml"),
) -> None:
    """Write a run file of your own, from a shipped one; one that is there stays."""
    from q2.config import RunFile, text_of
    from q2.files import write_text

    RunFile.load(config)
    if out.exists():
        raise ConfigError(f"--out {out}: already exists; choose another name")
    try:
        write_text(out, text_of(config))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {why(error)}") from error
    screen().report({"file": str(out)})
    screen().result(f"written: {out}")
    paste("transform", "--config", out)


@settings.command()
@shared
def schema() -> None:
    """Print the JSON schema of run files, for editors; tables of passes and strategies are in it."""
    from q2.session.schema import json_schema

    print(json.dumps(json_schema(Plugins()), indent=2, ensure_ascii=False))


@listing.command()
@shared
def passes(options: Options = False, config: Own = "") -> None:
    """List the passes, with the plugin each comes from."""
    from q2.passes.kinds import PASSES

    _catalogue(PASSES, config, options=options)


@listing.command()
@shared
def quantizers(config: Own = "") -> None:
    """List the quantizers, with the plugin each comes from."""
    _catalogue(QUANTIZERS, config)


@listing.command()
@shared
def denoisers(config: Own = "") -> None:
    """List the denoisers, with the plugin each comes from."""
    _catalogue(DENOISERS, config)


@listing.command()
@shared
def models() -> None:
    """List the modules that ship with q2 beside its denoisers, and the data that they were trained on."""
    from q2.models.imported import MODELS

    _listed(["model", "factory", "data"], [[name, each.factory, each.data] for name, each in MODELS.items()])


@listing.command()
@shared
def exporters(config: Own = "") -> None:
    """List the formats that q2 export writes, with the plugin each comes from."""
    _catalogue(EXPORTERS, config)


@listing.command()
@shared
def metrics(config: Own = "") -> None:
    """List the metrics that a target can name, with the plugin each comes from."""
    _catalogue(METRICS, config)


@listing.command()
@shared
def strategies(options: Options = False, config: Own = "") -> None:
    """List the strategies of q2 search, with the plugin each comes from."""
    _catalogue(STRATEGIES, config, options=options)


@listing.command()
@shared
def engines(config: Own = "") -> None:
    """List the engines of q2 search, with the plugin each comes from."""
    _catalogue(ENGINES, config)


@listing.command()
@shared
def plugins(config: Own = "") -> None:
    """List the plugins that were found, the broken ones with their error."""
    rows = [[p.name, p.version, p.origin, p.error or ", ".join(p.offers)] for p in _plugins(config).infos]
    _listed(["plugin", "version", "from", "offers, or its error"], rows)


@listing.command()
@shared
def configs() -> None:
    """List the run files that come with q2."""
    from q2.config import RunFile, shipped

    found = [(name, RunFile.load(name).settings) for name in shipped()]
    _listed(["run file", "about"], [[name, each.denoiser.name or each.model.name] for name, each in found])


def _plugins(config: str) -> Plugins:
    """Return the installed plugins, or those of a run file: the installed ones and its own. Raises `Q2Error`."""
    if not config:
        return Plugins()
    with opened(config, None) as session:
        return session.plugins


def _catalogue(kind: Kind[Any], config: str, *, options: bool = False) -> None:
    catalogue = _plugins(config).of(kind)
    if options:
        _listed([kind.name, "option", "default", "meaning"], _options(catalogue))
        return
    rows = []
    for name in catalogue:
        owners = catalogue.owners(name)
        try:
            summary = catalogue[name].summary()
        except Q2Error as error:
            summary = str(error)
        rows.append([name, ", ".join(owners), summary])
    _listed(["name", "from", "what it is"], rows)


def _options(catalogue: "Catalogue[Any]") -> list[list[str]]:
    """Return a row for every option of every pass or strategy, which are frozen dataclasses."""
    from q2.config import options_of
    from q2.descriptions import descriptions

    rows = []
    for name in catalogue:
        kind = catalogue.load(name)
        meaning = descriptions(kind)
        found = options_of(kind).items()
        rows += [[name, option, default, meaning.get(option, "")] for option, default in found] or [[name, "–", "", ""]]
    return rows


def _listed(headers: list[str], rows: list[list[str]]) -> None:
    screen().report([dict(zip(headers, row, strict=True)) for row in rows])
    screen().table(headers, rows, result=True)
