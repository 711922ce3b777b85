"""``q2 transform``: run the passes of a run file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, given, opened, paste
from q2.commands.modules import transform_model
from q2.commands.replay import check_alone, replay
from q2.commands.screen import screen
from q2.commands.watching import Watching

if TYPE_CHECKING:
    from q2.session.session import Session
    from q2.session.transform import Transformed

__all__ = ["transform"]

_CLASS, _PROMPT = "3", "a photo of a cat"
_NOTHING = "–"
_OTHERS = ("search.", "calibration.")  # settings that change nothing of a transform


def transform(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Apply this recipe instead of the run file's rules.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for what the run writes.", show_default="runs/…")] = None,
    save: Annotated[Path | None, typer.Option(help="Write the pipeline, its weights packed, into this folder.")] = None,
    passes: Annotated[
        str, typer.Option(metavar="TEXT", help='Run these passes instead, as in "stats,quantize{default=uaq-4},size".')
    ] = "",
    verify_each: Annotated[bool, typer.Option("--verify-each", help="Check the graph after every pass.")] = False,
    print_ir_after: Annotated[
        list[str] | None, typer.Option(metavar="PASS", help="Print the graph after this pass, or all; repeatable.")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep the graph before and after each pass in this folder.")
    ] = None,
    timing: Annotated[bool, typer.Option("--timing", help="Print where the time went, pass by pass.")] = False,
    replay_file: Annotated[
        Path | None, typer.Option("--replay", metavar="FILE", help="Run what a crashed pass left behind again.")
    ] = None,
) -> None:
    """Trace a denoiser, run its passes, and compare its images with full precision; or those of a module."""
    watching = Watching(print_ir_after or (), dump, timing)
    if replay_file:
        check_alone(config, recipe, passes, out, save)
        replay(replay_file, override, watching, verify_each=verify_each)
        return
    with opened(config, override, recipe, passes) as session:
        if session.settings.model.given:
            _settings(session)
            transform_model(session, out, save, watching, verify_each=verify_each)
            return
        instruments = watching.instruments(session)
        from q2.session.session import run_folder

        folder = run_folder(out, session.title)
        from q2.session.checks import check_passes
        from q2.session.transform import transform as start

        check_passes(session)
        show = screen()
        show.say(f"q2 transform · {session.run.name} · {folder}\n")
        _settings(session)
        outcome = start(session, folder, packed=save, verify_each=verify_each, instruments=instruments)
    watching.show(outcome.timing)
    show.report(outcome.report | {"folder": str(folder)})
    if show.quiet:
        show.result(outcome.line)
    show.say()
    show.paths(f"written: {folder}/  ", [file.name for file in outcome.files])
    if outcome.comparison:
        show.result(f"look at: {folder / 'samples.png'}")
    _next(outcome, [*given(config, override), "--recipe", str(folder / "recipe.toml")], save)


def _settings(session: "Session") -> None:
    """Print a transform's settings: all if wanted, else the settings that differ from the defaults."""
    show = screen()
    if show.verbose:
        show.say(show.wrap("passes       ", session.pass_pipeline) + "\n")
        show.table(["setting", "default", "file", "override", "effective"], session.rows())
        return
    rows = [
        [name, default, effective, "--set" if override != _NOTHING else "file"]
        for name, default, _, override, effective in session.rows()
        if default != effective and not name.startswith(_OTHERS)
    ]
    show.table(["setting", "default", "effective", "from"], rows)


def _next(outcome: "Transformed", run: list[str], save: Path | None) -> None:
    """Say what a person would do next: look at pictures, or, of a denoiser without weights, at its graph."""
    if outcome.denoiser.weights == "meta":
        paste("plot", "dag", *run)
    elif save:
        paste("sample", "--from", save, *_what(outcome.session), "--n", 8, "--compare")
    else:
        paste("sample", *run, *_what(outcome.session), "--n", 8, "--compare")


def _what(session: "Session") -> list[str]:
    """Return what to draw: a class, or a prompt where the denoiser takes one."""
    from q2.denoisers import Ask
    from q2.errors import Q2Error

    try:
        session.create_denoiser().check_classes(Ask((), (int(_CLASS),)))
    except Q2Error:
        return ["--prompt", _PROMPT]
    return ["--class-id", _CLASS]
