"""``q2 trials``: look at what a search has measured, merge stores, and exchange trials with others."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from q2.commands.console import opened
from q2.commands.screen import screen, shared

if TYPE_CHECKING:
    from q2.quant import Recipe
    from q2.search.trials.store import TrialStore
    from q2.search.trials.trial import Trial

__all__ = ["trials"]

trials = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at trials, merge and exchange them.")

Run = Annotated[Path, typer.Argument(help="A search's folder, or a store in it.", show_default=False)]


@trials.command()
@shared
def ls(
    run: Run,
    sort: Annotated[
        str, typer.Option(help="METRIC: lowest first; -METRIC: highest; target: best.", show_default="number")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many rows.")] = 40,
) -> None:
    """List the trials: state, strategy, fidelity, metrics, and what the run's target makes of them."""
    from q2.search.trials.listing import Listing

    store = _opened(run)
    listing = Listing.of(store)
    rows, show = listing.rows(sort), screen()
    show.report([dict(zip(listing.headers, row, strict=True)) for row in rows[:limit]])
    show.table(listing.headers, rows, limit=limit, rest=f"--limit {len(rows)} shows all", result=True)
    failed = sum(trial.state == "failed" for trial in store)
    count = f"{len(rows)} trials" if rows else "no trials"
    show.result(f"{count} of {store.fingerprint.denoiser}{f', {failed} failed' if rows else ''} · {store.path}")


@trials.command()
@shared
def show(
    run: Run,
    trial: Annotated[str, typer.Argument(help="Its number, or the start of its id.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help="Write its recipe into this file.", show_default="none")] = None,
) -> None:
    """Show one trial: what was measured of it, and its recipe."""
    from q2.search.trials.listing import Listing

    store = _opened(run)
    listing = Listing.of(store)
    found, show = listing.find(trial), screen()
    if out is not None:
        _recipe(store, found).save(out)
    facts, metrics, recipe = listing.details(found)
    show.report({"id": found.id} | found.table())
    show.table(["trial", ""], facts, result=True)
    show.table(["metric", "value", "from", "to"], metrics, result=True)
    show.table(["layer", "option"], recipe, result=True)
    if out is not None:
        show.result(f"written: {out}")


@trials.command()
@shared
def merge(
    out: Annotated[Path, typer.Argument(help="The store to merge into; made if it is not there.", show_default=False)],
    stores: Annotated[list[Path], typer.Argument(help="Searches' folders, or stores.", show_default=False)],
) -> None:
    """Merge the trials of several searches of one denoiser, evaluated alike; in any order, as often as you like."""
    from q2.search.trials.store import TrialStore, store_in

    found = [_opened(path) for path in stores]
    for store in found:
        found[0].check(store)
    into = TrialStore.open(store_in(out), found[0].fingerprint)
    new = sum(into.merge(store) for store in found)
    show = screen()
    show.report({"trials": len(into), "new": new, "store": str(into.path)})
    show.result(f"{len(into)} trials, {new} new records · {into.path}")


@trials.command()
@shared
def export(
    run: Run,
    format: Annotated[Literal["json", "csv"], typer.Option(help="JSON comes back with import.")] = "json",  # noqa: A002
    out: Annotated[Path | None, typer.Option(help="The file to write.", show_default="print")] = None,
) -> None:
    """Write the trials as JSON or as a CSV table."""
    from q2.search.trials.exchange import csv_lines, json_lines
    from q2.search.trials.exchange import export as write

    store = _opened(run)
    if out is None:
        sys.stdout.writelines(csv_lines(store) if format == "csv" else json_lines(store, store.fingerprint))
    else:
        write(store, out, format)
        screen().result(f"written: {out}  {len(store)} trials")


@trials.command("import")
@shared
def take_in(
    run: Run,
    file: Annotated[Path, typer.Argument(help="JSON of export; or .pkl of Qua²SeDiMo's code.", show_default=False)],
    config: Annotated[str, typer.Option(help="The run file of a .pkl's denoiser.", show_default=False)] = "",
) -> None:
    """Add trials from a file: all of them, or none if one is wrong."""
    from q2.errors import ConfigError

    if file.suffix != ".pkl":
        from q2.search.trials.exchange import import_

        store = _opened(run)
        new = import_(store, file)
        screen().result(f"{new} new records, {len(store)} trials · {store.path}")
        return
    if not config:
        raise ConfigError(f"{file}: a .pkl needs --config, the run file of its denoiser")
    with opened(config, None) as session:
        from q2.search.trials.store import store_in
        from q2.session.legacy import import_legacy

        taken = import_legacy(session, store_in(run), file)
    show = screen()
    show.result(f"{taken.new} new records, {taken.trials} trials in {file.name} · {store_in(run)}")
    if taken.difference is not None:
        show.result(f"avg_bits: the file's differ from the recipes' exact ones by {taken.difference:.4f} at most")


def _recipe(store: "TrialStore", trial: "Trial") -> "Recipe":
    """Return a trial's recipe; the search's own beside the store says what its options are calibrated to."""
    from q2.errors import TrialError
    from q2.quant import Recipe

    if "avg_bits" not in trial.metrics:
        raise TrialError(f"{trial.label}: has no 'avg_bits', which a recipe says")
    beside = store.path.parent / "recipe.toml"
    calibration = Recipe.load(beside).calibration if beside.exists() else ""
    of, bits = store.fingerprint, trial.metrics["avg_bits"]
    return Recipe.of(trial.recipe, of.denoiser, of.checkpoint, bits, calibration)


def _opened(path: Path) -> "TrialStore":
    from q2.search.trials.store import TrialStore, store_in

    return TrialStore.read(store_in(path))
