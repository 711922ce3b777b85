"""What commands do with a run file about a module, and ``q2 train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.console import Set, opened, paste, text_table
from q2.commands.screen import screen

if TYPE_CHECKING:
    from q2.commands.watching import Watching
    from q2.session.session import Session

__all__ = ["search_model", "train", "transform_model"]


def transform_model(
    session: "Session", out: Path | None, save: Path | None, watching: "Watching", *, verify_each: bool
) -> None:
    """Run the passes of a run file over its module, and print what they say."""
    from q2.session.modules.session import ModuleSession
    from q2.session.modules.transform import transform_module
    from q2.session.session import run_folder

    run, show = ModuleSession.of(session), screen()
    folder = run_folder(out, run.title)
    show.say(f"q2 transform · {run.run.name} · {folder}\n")
    outcome = transform_module(run, folder, save=save, verify_each=verify_each, instruments=watching.instruments(run))
    watching.show(outcome.timing)
    show.report(outcome.report | {"folder": str(folder)})
    show.paths(f"written: {folder}/  ", [file.name for file in outcome.files])


def search_model(session: "Session", out: Path | None, *, dry_run: bool) -> None:
    """Search over the lists of a run file about a module, and print the front; a search that was stopped goes on."""
    from q2.session.modules.search import search_module
    from q2.session.modules.session import ModuleSession
    from q2.session.modules.trials import Searched
    from q2.session.session import run_folder

    run, show = ModuleSession.of(session), screen()
    if dry_run:
        show.result(f"space        {Searched(run.fork()).space}")
        return
    folder = run_folder(out, f"{run.title}-search")
    show.say(f"q2 search · {run.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
    found = search_module(run, folder)
    show.report(found.report | {"folder": str(folder)})
    text_table(found.every(), limit=None)
    text_table(found.table(), limit=None, result=True)
    show.paths(f"written: {folder}/  ", [file.name for file in found.files])
    paste("transform", "--config", folder / "best.toml")


def train(
    config: Annotated[str, typer.Option("--config", help="A run file about a module, or the name of a shipped one.")],
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the weights.", show_default="runs/…")] = None,
) -> None:
    """Train the module of a run file on its data, after the file's transforms; write its weights."""
    show = screen()
    with opened(config, override) as session:
        from q2.session.modules.session import ModuleSession
        from q2.session.modules.training import train_module
        from q2.session.session import run_folder

        run = ModuleSession.of(session)
        folder = run_folder(out, f"train-{run.title}")
        trained = train_module(run, folder)
    show.report({"accuracy": trained.score.accuracy, "loss": trained.score.loss, "folder": str(folder)})
    show.result(f"test accuracy {trained.score.accuracy:.4f}, loss {trained.score.loss:.4f}")
    show.paths(f"written: {folder}/  ", [file.name for file in trained.files])
    paste("transform", "--config", config, "--set", f"model.weights={folder / 'model.safetensors'}")
