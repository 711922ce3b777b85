"""Draw images with a quantized denoiser: files, a grid, and a comparison if asked for."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from q2.denoisers import Ask, Denoiser, Samples, device_of
from q2.denoisers.captions import captioned
from q2.denoisers.pairs import psnr, sqnr, ssim
from q2.denoisers.picture import picture_of, sheet
from q2.denoisers.pipelines.latents import autoencoder
from q2.denoisers.saving.save import saved_activations
from q2.errors import ConfigError, why
from q2.files import replacing, write_json
from q2.passes import Pass, PassManager, Step, TextTable, is_transform
from q2.passes.kinds import PASSES
from q2.passes.transform.quantize_activations import QuantizeActivations
from q2.session.bank import open_bank
from q2.session.checks import check_passes
from q2.session.components import check_parts, quantize_parts_of
from q2.session.report import writing
from q2.session.saved import original_session
from q2.session.session import Session

__all__ = ["Order", "Pictures", "draw", "pictures", "read_prompts", "sample"]

_METRICS = {"PSNR dB": psnr, "SSIM": ssim}
Offload = Literal["", "model", "sequential"]


@dataclass(frozen=True)
class Order:
    """How many pictures, of what, from which noise, and what saves memory: diffusers' switches of the same names.

    `original` is the checkpoint that a saved folder was made from, for `compare`, if it is not where the folder says.
    """

    ask: Ask
    n: int = 8
    seed: int = 0
    steps: int | None = None
    batch: int = 4
    act_bits: int | None = None
    compare: bool = False
    original: str = ""
    offload: Offload = ""
    vae_slicing: bool = False
    vae_tiling: bool = False


def read_prompts(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file that are not empty. Raises `ConfigError`."""
    try:
        prompts = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--prompts {path}: cannot be read: {why(error)}") from error
    if not prompts:
        raise ConfigError(f"--prompts {path}: holds no prompt, expected one a line")
    return prompts


def sample(session: Session, order: Order, folder: Path) -> list[Path]:
    """Run the run file's transforms, draw, and write into `folder`; return the files.

    Image i comes from noise of its own, the same in any batch. With `compare` the same images are drawn at full
    precision first. Nothing is written before all is drawn. Raises `Q2Error`.
    """
    made, full, session = draw(session, order)
    rows = _compared(made, full) if full else []
    if rows:
        session.show(Step("compare", 0, _mean(rows), (_table(rows),)))
    denoiser = session.denoiser
    facts: dict[str, Any] = {
        "denoiser": {"name": denoiser.label, "source": denoiser.source, "dtype": str(denoiser.dtype)},
        "passes": {title: {"pass": step.name} | step.to_table() for title, step in session.passes},
        "steps": order.steps or denoiser.protocol.steps,
        "guidance": denoiser.protocol.guidance if order.ask.guidance is None else order.ask.guidance,
        "order": asdict(order),
    }
    with writing(folder):
        return _write(folder, made, full, rows, facts, titles=_titles(denoiser, made, order.ask))


def draw(session: Session, order: Order) -> tuple[Samples, Samples | None, Session]:
    """Generate the images of an order; return them, those at full precision if wanted, and the session that was used.

    Raises `ConfigError` for an order that the denoiser cannot serve.
    """
    session.create_denoiser().check_classes(order.ask)
    given = {} if order.act_bits is None else {"bits": order.act_bits}
    session = session.with_passes(_passes(session, given, "--act-bits"))
    device = device_of(session.settings.denoiser.device)
    if order.offload:
        if device.type == "cpu":
            raise ConfigError("--offload: the denoiser runs on the CPU already")
        session = session.with_run(session.run.overridden(["denoiser.device=cpu"]))  # and is moved to draw
    check_passes(session, transforms=True)
    check_parts(session)
    original = original_session(session, order.original) if order.compare else None
    full = _drawn(original, order, device) if original else None
    original = None  # so that two denoisers are not in memory
    session.load_pipeline()
    denoiser, graph = session.denoiser, session.graph
    if order.act_bits is None:
        saved = saved_activations(denoiser.model)
        vars(session)["passes"] = _passes(session, saved, f"{denoiser.source}: activations")
    _save_memory(denoiser, order)
    denoiser.check(order.ask)
    bank = open_bank(session) if session.is_quantizing else None
    ctx = session.with_rows(session.context(bank), is_transform)
    manager = PassManager(session.passes, ctx, only=is_transform)
    with session.at():
        manager.check(graph)

    if order.compare and full is None:
        full = _drawn(session, order, device)
    with session.at():
        for result in manager.each(graph):
            session.show(Step(result.title, result.seconds, result.report.summary))
    quantize_parts_of(session, denoiser)
    return _drawn(session, order, device), full, session


def _drawn(session: Session, order: Order, device: torch.device) -> Samples:
    """Return what is ordered, as a session's denoiser draws it now; `device` is where parts that are offloaded run."""
    with session.graph.installed(), _offloading(session, order.offload, device):
        return session.denoiser.generate(
            order.n,
            seed=order.seed,
            steps=order.steps,
            batch=order.batch,
            ask=order.ask,
            progress=session.progress,
        )


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images (N, C, H, W) in [0, 1], full precision's from the same noise if asked for, and what differs, by image."""

    images: Tensor
    full: Tensor | None
    rows: list[dict[str, float]]
    frames: int = 1

    def __repr__(self) -> str:
        count, _, height, width = self.images.shape
        videos = f"{count // self.frames} videos of {self.frames} frames"
        title = f"{videos if self.frames > 1 else f'{count} images'} of {height} x {width}"
        return f"{title}, {_mean(self.rows)}\n{_table(self.rows)}" if self.rows else title

    def grid(self) -> Image.Image:
        """Return all images in one picture, full precision's above."""
        return _sheet([self.full, self.images] if self.full is not None else [self.images], self.frames)

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.grid().save(data, format="PNG")
        return data.getvalue()


def pictures(session: Session, order: Order) -> Pictures:
    """Draw what is ordered and return it; nothing is written. Raises `Q2Error`."""
    made, full, _ = draw(session, order)
    return Pictures(made.images, full.images if full else None, _compared(made, full) if full else [], made.frames)


def _passes(session: Session, activations: Mapping[str, Any], where: str) -> list[tuple[str, Pass]]:
    """Return the run file's passes, the last one of activations with other options if there are any."""
    if not activations:
        return session.passes
    name = QuantizeActivations.name
    kind = session.plugins.of(PASSES).load(name)
    step = kind.from_table(dict(activations), lambda key: where)
    places = [place for place, (_, each) in enumerate(session.passes) if each.name == name]
    last = places[-1] if places else len(session.passes)
    head, tail = session.passes[:last], session.passes[last + 1 :]
    return [*((title, each) for title, each in head if each.name != name), (name, step), *tail]


@contextmanager
def _offloading(session: Session, offload: Offload, device: torch.device) -> Iterator[None]:
    """Let diffusers move what it needs to `device` within the `with`; its hooks go around a forward that is installed.

    One by one, modules are moved when they are called. A graph calls layers only: what it reads of other modules, as a
    block's own parameter, stays on the device.
    """
    if not offload:
        yield
        return
    from accelerate.hooks import remove_hook_from_module

    pipeline, model = session.denoiser.pipeline(), session.denoiser.model
    switch = {"model": "enable_model_cpu_offload", "sequential": "enable_sequential_cpu_offload"}[offload]
    getattr(pipeline, switch)(device=device)
    read = [str(node.target) for node in session.graph.fx.nodes if node.op == "get_attr"]
    owners = [model.get_submodule(name.rpartition(".")[0]) for name in read] if offload == "sequential" else []
    for owner in owners:
        _move_own(remove_hook_from_module(owner), device)
    try:
        yield
    finally:
        pipeline.remove_all_hooks()
        for owner in owners:
            _move_own(owner, session.denoiser.device)
        for part in pipeline.components.values():
            for module in part.modules() if isinstance(part, nn.Module) else ():
                forward = vars(module).get("forward")  # accelerate leaves the class's own there
                if getattr(forward, "__func__", None) is type(module).forward:
                    del module.forward


def _move_own(module: nn.Module, device: torch.device) -> None:
    """Move the parameters and buffers of a module, not those of the modules in it."""
    for name, parameter in module.named_parameters(recurse=False):
        module._parameters[name] = nn.Parameter(parameter.to(device), parameter.requires_grad)
    for name, buffer in module.named_buffers(recurse=False):
        module._buffers[name] = buffer.to(device)


def _save_memory(denoiser: Denoiser, order: Order) -> None:
    """Turn on diffusers' own switches of the autoencoder against a lack of memory. Raises `ConfigError`."""
    pipeline = denoiser.pipeline()
    for wanted, option, switch in (
        (order.vae_slicing, "--vae-slicing", "enable_slicing"),
        (order.vae_tiling, "--vae-tiling", "enable_tiling"),
    ):
        if wanted:
            enable = getattr(autoencoder(pipeline), switch, None)
            if enable is None:
                raise ConfigError(f"{option}: {type(pipeline).__name__} has no autoencoder that can do so")
            enable()


def _compared(made: Samples, full: Samples) -> list[dict[str, float]]:
    """Return PSNR, SSIM and the latents' SQNR of every image against full precision's, of a video over its frames."""
    one, other = (np.asarray(samples.images.clamp(0, 1)) for samples in (made, full))
    latents = sqnr(np.asarray(made.latents), np.asarray(full.latents))
    count = len(made.labels)
    means = {name: metric(one, other).reshape(count, -1).mean(1) for name, metric in _METRICS.items()}
    columns = {**means, "latent SQNR dB": latents}
    return [{name: float(values[i]) for name, values in columns.items()} for i in range(count)]


def _table(rows: list[dict[str, float]]) -> TextTable:
    return TextTable(("image", *rows[0]), tuple((f"{i:04}", *row.values()) for i, row in enumerate(rows)))


def _mean(rows: list[dict[str, float]]) -> str:
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    return "mean " + " · ".join(f"{name} {value:.2f}" for name, value in means.items())


def _write(
    folder: Path,
    made: Samples,
    full: Samples | None,
    rows: list[dict[str, float]],
    facts: Mapping[str, Any],
    *,
    titles: list[str],
) -> list[Path]:
    """Write every image, or frame, with its settings beside it, and the grid; full precision's go above in the grid."""
    files: list[Path] = []
    with ExitStack() as stack:  # all are complete before the first is renamed

        def beside(name: str) -> Path:
            files.append(folder / name)
            return stack.enter_context(replacing(folder / name))

        for i in range(len(made.labels)):
            frames = made.images[i * made.frames : (i + 1) * made.frames]
            for number, frame in enumerate(frames):
                name = f"{i:04}-{number:03}.png" if len(frames) > 1 else f"{i:04}.png"
                picture_of(frame).save(beside(name), format="PNG")
            own = {"image": i, "label": int(made.labels[i]), "compared": rows[i] if rows else None}
            write_json(beside(f"{i:04}.json"), json.loads(json.dumps(own | dict(facts), default=str)))
        sheets = {"full.png": [full.images], "quantized.png": [made.images]} if full else {}
        for name, sets in sheets.items():
            _sheet(sets, made.frames).save(beside(name), format="PNG")
        sets = [full.images, made.images] if full else [made.images]
        _captioned(sets, made.frames, titles).save(beside("grid.png"), format="PNG")
    return files


def _sheet(sets: list[Tensor], frames: int) -> Image.Image:
    """Return all images of every set in rows, a row for each video."""
    return sheet(sets, columns=frames, most=len(sets[0])) if frames > 1 else sheet(sets, most=len(sets[0]))


def _titles(denoiser: Denoiser, made: Samples, ask: Ask) -> list[str]:
    """Return the prompt that was asked for, or what the judge calls the class, of every image or video."""
    if ask.prompts:
        return ask.turn(ask.prompts, range(len(made.labels)))
    judge = denoiser.judge()
    return [judge.title(label) if judge else str(label) for label in made.labels.tolist()]


def _captioned(sets: list[Tensor], frames: int, titles: list[str]) -> Image.Image:
    """Return the grid with what its rows are, and a title above every image."""
    names = ["full precision", "quantized"][-len(sets) :]
    labels = [title for title in titles for _ in range(frames)]
    height, width = sets[0].shape[2:]
    return captioned(_sheet(sets, frames), names, labels, (width, height))
