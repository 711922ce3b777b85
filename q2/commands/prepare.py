"""``q2 bank`` and ``q2 calibrate``: what is made once, for quantize and searches to use."""

import time
from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, given, opened, paste
from q2.commands.screen import screen

__all__ = ["bank", "calibrate"]


def bank(
    config: Config = DEFAULT,
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the bank.", show_default="bank/…")] = None,
) -> None:
    """Fit every option of every layer once, so that quantize need not; a build that was stopped goes on."""
    start = time.perf_counter()
    with opened(config, override) as session:
        if out:
            from q2.session.folder import RunOf, check_free

            check_free(out, RunOf.of(session, "bank"), "--out ")
        from q2.session.bank import build_bank

        report = build_bank(session, out)
    show, seconds = screen(), time.perf_counter() - start
    show.report({"folder": str(report.bank.folder), "seconds": seconds, "summary": report.summary})
    show.result(f"bank {seconds:.1f} s   {report.summary}\nwritten: {report.bank.folder}/")
    path = [] if any(each.startswith("bank.path=") for each in override or ()) else [f"bank.path={report.bank.folder}"]
    paste("transform", *given(config, [*(override or ()), *path]))


def calibrate(
    config: Config = DEFAULT,
    override: Set = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the rows.", show_default="calibration/…")] = None,
) -> None:
    """Denoise a few images and keep rows of what every layer reads; a calibration that was stopped goes on."""
    start = time.perf_counter()
    with opened(config, override) as session:
        from q2.session.calibrate import calibrate as collect
        from q2.session.folder import RunOf, check_free
        from q2.session.session import run_folder

        if out:
            check_free(out, RunOf.of(session, "calibration"), "--out ")
        report = collect(session, run_folder(out, "") if out else None)
    show, seconds = screen(), time.perf_counter() - start
    show.report({"folder": str(report.store.folder), "seconds": seconds, "summary": report.summary})
    show.result(f"calibrate {seconds:.1f} s   {report.summary}\nwritten: {report.store.folder}/")
    path = [f"calibration.path={report.store.folder}"] if out else []
    paste("bank", *given(config, [*(override or ()), "bank.calibrated=true", *path]))
