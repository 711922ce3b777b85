"""An export: a run with a recipe, or a folder that q2 saved, written in another format."""

from dataclasses import replace
from pathlib import Path

from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.errors import CheckpointError, ConfigError
from q2.exporters import Exported, Exporter
from q2.graph import trace
from q2.passes import QUANTIZE, PassContext, PassManager, is_transform
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import parts_of
from q2.session.transform import load_denoiser, open_bank, prepare

__all__ = ["export"]

_COMPONENTS = ("transformer", "unet")


def export(
    source: RunFile | Path, to: str, out: Path, progress: Progress = silent, plugins: Plugins | None = None
) -> Exported:
    """Write what a run file quantizes, or a folder that ``q2 transform --save`` made, in the format `to`.

    Of the run file's passes the transforms are run, and what they require. Raises `Q2Error`: a format that nobody
    offers with the nearest name, nothing quantized, and whatever the exporter cannot do. `plugins` (None: the installed
    ones) have the quantizers of a folder, and the format.
    """
    if isinstance(source, Path):
        plugins = plugins or Plugins()
        exporter = _exporter(plugins, to)
        return exporter.export(_saved(source, plugins), out, progress)
    plan = prepare(source)
    exporter = _exporter(plan.plugins, to)
    denoiser = load_denoiser(plan)
    graph = trace(denoiser.model, denoiser.example_inputs())
    bank = open_bank(plan, graph, denoiser) if any(step.name == QUANTIZE for _, step in plan.passes) else None
    ctx = PassContext(plan.plugins, denoiser, plan.settings.seed, progress, plan.settings.prec, bank)
    PassManager(plan.passes, ctx, only=is_transform).run(graph)
    if all(part.option.is_none for module in denoiser.model.modules() for part in parts_of(module)):
        raise ConfigError(f"{source.name}: passes: nothing is quantized, there is nothing to export")
    done = exporter.export(denoiser, out, progress)
    left = f"; without {', '.join(graph.rewrites)}, which only q2 can run" if graph.rewrites else ""
    return replace(done, summary=done.summary + left)


def _exporter(plugins: Plugins, name: str) -> Exporter:
    return plugins.exporters.load(name)()


def _saved(folder: Path, plugins: Plugins) -> Denoiser:
    """Return the denoiser of a folder that q2 saved, in the dtype in which it was saved."""
    checkpoint = Checkpoint(str(folder))
    component, name = checkpoint.component(_COMPONENTS)
    checkpoint.check(component, name)
    quantized = checkpoint.config(component).get("quantization_config")
    if not isinstance(quantized, dict) or not quantized.get("layers"):
        raise CheckpointError(f"{folder}: nothing in it is quantized; q2 transform --save makes such folders")
    return load(checkpoint=str(folder), dtype=str(quantized.get("dtype", "float32")), plugins=plugins)
