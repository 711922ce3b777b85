"""``q2 transform --replay``: run the passes of a reproducer again."""

from pathlib import Path
from typing import TYPE_CHECKING

from q2.commands.console import DEFAULT, session_of
from q2.commands.screen import screen
from q2.errors import ConfigError, PassError

if TYPE_CHECKING:
    from q2.commands.watching import Watching

__all__ = ["check_alone", "replay"]


def check_alone(config: str, recipe: str, passes: str, out: Path | None, save: Path | None) -> None:
    """Raise `ConfigError` for options that say what a reproducer says itself."""
    given = {"--config": config != DEFAULT, "--recipe": recipe, "--passes": passes, "--out": out, "--save": save}
    for option in (option for option, value in given.items() if value):
        raise ConfigError(f"--replay: the file says what to run, and a replay writes nothing; leave out {option}")


def replay(file: Path, override: list[str] | None, watching: "Watching", *, verify_each: bool) -> None:
    """Run the passes of a reproducer until one fails, and say whether it is the same failure; nothing is written.

    Raises `PassError` for a failure, `ConfigError` for a file that is no reproducer.
    """
    from q2.session.reproducer import Reproducer
    from q2.version import version

    found, show = Reproducer.load(file), screen()
    wrote = found.versions.get("q2", "")
    show.say(f"q2 transform · {file} · {found.run}, written {found.written[:10]} with q2 {wrote}")
    if wrote != version():
        show.say(f"this is q2 {version()}")
    if found.left_out:
        show.say(f"left out of the file: {', '.join(found.left_out)}; say them with --set")
    show.say(f"passes:  {found.passes}\n")
    verify_each = verify_each or found.verify_each
    try:
        with session_of(found.run_file(file).overridden(override or ())) as session:
            if session.settings.model.given:
                from q2.session.modules.session import ModuleSession
                from q2.session.modules.transform import transform_module

                run = ModuleSession.of(session)
                watched = watching.instruments(run)
                watching.show(transform_module(run, None, verify_each=verify_each, instruments=watched).timing)
            else:
                from q2.session.transform import transform

                watched = watching.instruments(session)
                watching.show(transform(session, None, verify_each=verify_each, instruments=watched).timing)
    except PassError as error:
        same = found.is_same(error)
        note = f"the failure of {file}" if same else f"not the failure of {file}, which is: {found.failure.error}"
        raise error.noting(note) from error.__cause__
    show.report({"failed": False, "failure": found.failure.error})
    show.result(
        f"nothing failed; {file} has pass {found.failure.number} {found.failure.title!r}: {found.failure.error}"
    )
