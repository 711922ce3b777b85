"""``q2 plan``: what a quantized denoiser will take, before there is one."""

from pathlib import Path
from typing import Annotated

import typer

from q2.commands.console import DEFAULT, Config, Set, given, opened, paste, text_table
from q2.commands.screen import screen

__all__ = ["plan"]


def plan(
    config: Config = DEFAULT,
    override: Set = None,
    recipe: Annotated[str, typer.Option(help="Of this recipe instead of the run file's rules.")] = "",
    avg_bits: Annotated[
        float | None, typer.Option("--avg-bits", help="Of the best options within so many bits a weight.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="Time and memory of this GPU.", show_default="this machine")] = "",
    images: Annotated[int, typer.Option(min=1, help="How many are drawn at a time.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the recipe into this file.")] = None,
) -> None:
    """Show what a denoiser needs: bytes, BOPs, memory while generating, time, disk; no weights are loaded."""
    from q2.errors import ConfigError
    from q2.session.hardware import gpu_of

    if recipe and avg_bits is not None:
        raise ConfigError("--recipe and --avg-bits: give only one of them")
    try:
        wanted = gpu_of(gpu) if gpu else None
    except ConfigError as error:
        raise ConfigError(f"--gpu: {error}") from error
    with opened(config, override, recipe) as session:
        from q2.session.forecast import forecast

        found = forecast(session, avg_bits=avg_bits, gpu=wanted, images=images)
    show = screen()
    facts = {"avg_bits": found.recipe.avg_bits, "memory": dict(found.memory), "seconds": found.seconds}
    show.report({step.title: step.summary for step in found.plan} | {"figures": facts})
    for step in found.plan:
        show.result(show.wrap(f"{step.title:<12} ", step.summary))
        for table in step.tables:
            text_table(table, result=True)
    if out:
        from q2.session.report import writing

        with writing(out, "--out"):
            found.recipe.save(out)
        show.result(f"written: {out}")
        paste("transform", *given(config, override), "--recipe", out)
