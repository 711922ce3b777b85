"""``q2 new``: something of one's own to begin with."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.screen import screen, shared
from q2.errors import ConfigError
from q2.plugins import BUILT_IN, Plugins, builtin
from q2.plugins.scaffold import KINDS, PluginPackage, write_package

__all__ = ["new"]

new = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Begin something of your own.")


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


@new.command()
@shared
def plugin(
    name: Annotated[str, typer.Argument(help="What run files call the thing: small letters, with '-' between words.")],
    kind: Annotated[str, typer.Option(help=f"What it adds: {', '.join(KINDS)}.", autocompletion=_kinds)],
    out: Annotated[Path | None, typer.Option(help="The folder to write; q2-plugin-NAME if not given.")] = None,
) -> None:
    """Write an installable plugin package with one small thing that works, its tests and its checks.

    A folder that is there stays as it is.
    """
    package = PluginPackage(name, kind)
    if name in getattr(builtin, KINDS[kind].hook)():
        raise ConfigError(f"{name}: q2 has a {kind} of that name; choose another, two of one name are an error")
    taken = {info.name for info in Plugins().infos if info.name != BUILT_IN}
    if name in taken:
        raise ConfigError(f"{name}: a plugin of that name is installed; choose another")
    folder = write_package(package, out or Path(package.package))
    screen().report({"folder": str(folder), "files": sorted(package.files())})
    screen().result(f"written: {folder}")
    screen().say(f"next:    pip install -e '{folder}[dev]' && cd {folder} && pytest")
