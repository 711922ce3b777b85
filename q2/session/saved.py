"""A session of a folder that q2 saved: its denoiser is the one it was made from, and so is full precision's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from q2.config import RunFile
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.saving.original import KEPT, SavedFolder
from q2.errors import ConfigError, Q2Error
from q2.session.session import Session

__all__ = ["of_saved", "original_of", "original_session"]


def of_saved(session: Session, folder: str, *, named: bool = True) -> Session:
    """Return the session of a saved folder, which says what its denoiser is; nothing else is quantized.

    `named` is whether somebody chose the run file: its denoiser holds for a folder that does not say. Raises
    `ConfigError`.
    """
    run = session.run.with_saved(folder)
    with _with(session, run).at("denoiser", "checkpoint"):
        found = SavedFolder.find(run.settings.denoiser.checkpoint)
    if found is not None and (found.denoiser or not named):
        kept = {key: value for key, value in found.denoiser.items() if key in KEPT}
        component = {} if kept.get("name") else {"component": found.component}
        run = session.run.with_saved(folder, {"dtype": found.dtype, **component, **kept})
    return _with(session, run).of_saved()


def original_of(session: Session) -> dict[str, Any]:
    """Return what a saved folder says of the denoiser that it was made from: settings, fingerprint, revision."""
    wanted, denoiser = session.settings.denoiser, session.denoiser
    table = wanted.model_dump(mode="json", exclude_defaults=True, exclude={"device"})
    if wanted.checkpoint and Path(wanted.checkpoint).exists():
        table["checkpoint"] = str(Path(wanted.checkpoint).absolute())
    if not (wanted.name or wanted.model or wanted.checkpoint):
        table["name"] = session.title
    revision = denoiser.checkpoint.revision if denoiser.checkpoint else ""
    return {"denoiser": table, "fingerprint": denoiser.fingerprint} | ({"revision": revision} if revision else {})


def original_session(session: Session, given: str = "") -> Session | None:
    """Return the session of full precision where the denoiser is a saved folder; None where it is not one.

    `given` is the original's place if it is not what the folder says. The denoiser is loaded, and must be the one that
    the folder was made from. Raises `ConfigError` that says what to give.
    """
    wanted = session.settings.denoiser
    found = SavedFolder.find(wanted.checkpoint) if wanted.checkpoint and wanted.weights == "pretrained" else None
    if found is None:
        return None
    if not (given or found.denoiser):
        raise ConfigError(
            f"--compare: {found.where} does not say what it was made from; give --original, the checkpoint"
        )
    table = {**found.denoiser, "device": wanted.device, "dtype": wanted.dtype}
    if given:
        table = {**{key: value for key, value in table.items() if key not in ("weights", "tiny")}, "checkpoint": given}
    rest = {key: value for key, value in session.run.overrides.items() if key != "denoiser"}
    run = replace(session.run, file={**session.run.file, "denoiser": table}, overrides=rest, called={})
    original = _with(session, run).with_passes([])
    where = "--original" if given else f"--compare: {found.where} was made from {found.original}"
    hint = "" if given else "; give --original, the checkpoint that it was made from"
    try:
        if given:
            Checkpoint(given)
        original.load_pipeline()
    except Q2Error as error:
        raise ConfigError(f"{where}: {error}{hint}") from error
    same = original.denoiser.fingerprint in ("", found.fingerprint)
    if found.fingerprint and not same and wanted.dtype == found.denoiser.get("dtype", "float32"):
        here = (
            f"{given or table.get('checkpoint') or original.title} has the fingerprint {original.denoiser.fingerprint}"
        )
        raise ConfigError(f"{where}: {here}, not {found.fingerprint}{hint}")
    return original


def _with(session: Session, run: RunFile) -> Session:
    """Return a fork of another denoiser: that of `run`."""
    fork = session.fork()
    for name in ("shapes", "outline", "space"):
        vars(fork).pop(name, None)
    fork.run = run
    return fork
