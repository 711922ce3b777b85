"""``q2 sample``: pictures from a quantized denoiser."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from q2.commands.console import DEFAULT, Config, Set, load_run, print_step
from q2.commands.screen import screen
from q2.errors import ConfigError

__all__ = ["sample"]


def sample(
    config: Config = DEFAULT,
    override: Set = None,
    saved: Annotated[str, typer.Option("--from", help="A folder that --save wrote: nothing else is quantized.")] = "",
    recipe: Annotated[str, typer.Option(help="Apply this recipe instead of the run file's rules.")] = "",
    prompt: Annotated[list[str] | None, typer.Option(help="What to draw; repeatable, taken in turn.")] = None,
    prompts: Annotated[Path | None, typer.Option(metavar="FILE", help="A text file, one prompt a line.")] = None,
    class_id: Annotated[list[int] | None, typer.Option(help="Class to draw; repeatable, taken in turn.")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many images.")] = 8,
    seed: Annotated[int | None, typer.Option(help="Of the noise.", show_default="the run file's")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.", show_default="protocol")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.", show_default="protocol")] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels.", show_default="the model's")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time; changes none of them.")] = 4,
    act_bits: Annotated[int | None, typer.Option(help="Quantize activations, 4 to 8 bits.", show_default="16")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Draw the same at full precision and compare.")] = False,
    original: Annotated[str, typer.Option(help="The checkpoint that --from's folder was made from.")] = "",
    offload: Annotated[str, typer.Option(help="CPU offload: model or sequential.")] = "",
    vae_slicing: Annotated[bool, typer.Option("--vae-slicing", help="Decode one image at a time.")] = False,
    vae_tiling: Annotated[bool, typer.Option("--vae-tiling", help="Decode in tiles.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the images.", show_default="runs/…")] = None,
) -> None:
    """Draw images with the quantized denoiser; image i is the same in any batch."""
    if sum(map(bool, (prompt, prompts, class_id))) > 1:
        raise ConfigError("--prompt, --prompts and --class-id: give only one of them")
    if saved and recipe:
        raise ConfigError("--from names a folder that is quantized already; leave out --recipe")
    run = load_run(config, override, recipe)
    if original and not (saved and compare):
        raise ConfigError("--original is for --compare with --from, which names a saved folder")
    modes: dict[str, Literal["", "model", "sequential"]] = {"": "", "model": "model", "sequential": "sequential"}
    if offload not in modes:
        raise ConfigError(f"--offload {offload}: expected model or sequential")
    from q2.session.session import Session, run_folder

    with screen().working() as progress:
        session = Session(run, progress, print_step)  # what is wrong in the run file: before torch is imported
        if saved:
            from q2.session.saved import of_saved

            session = of_saved(session, saved, named=config != DEFAULT)
        from q2.denoisers import Ask
        from q2.session.folder import RunOf, check_free
        from q2.session.sample import Order, read_prompts
        from q2.session.sample import sample as draw

        texts = read_prompts(prompts) if prompts else tuple(prompt or ())
        order = Order(
            Ask(texts, tuple(class_id or ()), size, guidance),
            n=n,
            seed=run.settings.seed if seed is None else seed,
            steps=steps,
            batch=batch,
            act_bits=act_bits,
            compare=compare,
            original=original,
            offload=modes[offload],
            vae_slicing=vae_slicing,
            vae_tiling=vae_tiling,
        )
        folder = run_folder(out, f"{session.title}-samples")
        if check_free(folder, RunOf.of(session, "samples"), "--out "):
            screen().say(f"replaces: the images of the same numbers in {folder}/")
        files = draw(session, order, folder)
    screen().report({"folder": str(folder), "files": [file.name for file in files]})
    screen().result(f"written: {folder}/  {n} images and their settings\nlook at: {files[-1]}")
