"""Measured sensitivities of a run: the file that was named, or what lies in the run's folder."""

from pathlib import Path

from q2.quant.sensitivity import SensitivityTable
from q2.search.trials.singles import singles
from q2.search.trials.store import TrialStore, store_in

__all__ = ["FILE", "find_measured"]

FILE = "sensitivity.json"


def find_measured(folder: Path, named: Path | None = None) -> tuple[SensitivityTable, Path] | None:
    """Return the measurements and where they are: those in `named`, else those of the run of a predictor in `folder`.

    There it is ``sensitivity.json``, or trials of single layers in the run's store. Raises `Q2Error` for a file or
    store that cannot be read.
    """
    if named is not None:
        file = named / FILE if named.is_dir() else named
        return SensitivityTable.load(file), file
    for place in (folder, folder.absolute().parent):
        if (place / FILE).exists():
            return SensitivityTable.load(place / FILE), place / FILE
    run = folder.absolute().parent
    if not (store_in(run) / "store.json").exists():
        return None
    store = TrialStore.read(store_in(run))
    table = singles(store, store.fingerprint.denoiser, store.fingerprint.checkpoint)
    return None if table is None else (table, store.path)
