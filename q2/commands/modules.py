"""What commands do with a run file about a module, and ``q2 train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.console import Set, opened, print_table, text_table

if TYPE_CHECKING:
    from q2.session.session import Session

__all__ = ["search_model", "train", "transform_model"]

_HEADS = ["setting", "default", "file", "override", "effective"]


def transform_model(session: "Session", out: Path | None, save: Path | None, *, verify_each: bool) -> None:
    """Run the passes of a run file over its module, and print what they say."""
    from q2.session.modules.session import ModuleSession
    from q2.session.modules.transform import transform_module
    from q2.session.session import run_folder

    run = ModuleSession.of(session)
    folder = run_folder(out, run.title)
    print(f"q2 transform · {run.run.name} · {folder}\n")
    print_table(run.rows(), _HEADS)
    outcome = transform_module(run, folder, save=save, verify_each=verify_each)
    print(f"written: {folder}/  {'  '.join(file.name for file in outcome.files)}")


def search_model(session: "Session", out: Path | None, *, dry_run: bool) -> None:
    """Search over the lists of a run file about a module, and print the front; a search that was stopped goes on."""
    from q2.session.modules.search import search_module
    from q2.session.modules.session import ModuleSession
    from q2.session.modules.trials import Searched
    from q2.session.session import run_folder

    run = ModuleSession.of(session)
    if dry_run:
        print(f"space        {Searched(run.fork()).space}")
        return
    folder = run_folder(out, f"{run.title}-search")
    print(f"q2 search · {run.run.name} · {folder}/trials (resumable: Ctrl-C is safe)\n")
    found = search_module(run, folder)
    text_table(found.every())
    text_table(found.table())
    print(f"written: {folder}/  {'  '.join(file.name for file in found.files)}")
    print(f"next:    q2 transform --config {folder / 'best.toml'}")


def train(
    config: Annotated[str, typer.Option("--config", help="A run file about a module, or the name of a shipped one.")],
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the weights.", show_default="runs/…")] = None,
) -> None:
    """Train the module of a run file on its data, after the file's transforms; write its weights."""
    with opened(config, override) as session:
        from q2.session.modules.session import ModuleSession
        from q2.session.modules.training import train_module
        from q2.session.session import run_folder

        run = ModuleSession.of(session)
        folder = run_folder(out, f"train-{run.title}")
        trained = train_module(run, folder)
    print(f"test accuracy {trained.score.accuracy:.4f}, loss {trained.score.loss:.4f}")
    print(f"written: {folder}/  {'  '.join(file.name for file in trained.files)}")
    print(f"next:    q2 transform --config {config} --set model.weights={folder / 'model.safetensors'}")
