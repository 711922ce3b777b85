"""An export: a run with a recipe, or a folder that q2 saved, written in another format."""

from pathlib import Path

from q2.config import RunFile
from q2.denoisers import Denoiser, load
from q2.denoisers.checkpoint import Checkpoint
from q2.errors import CheckpointError, ConfigError
from q2.exporters import Exported, Exporter
from q2.graph import trace
from q2.passes import PassContext, PassManager
from q2.passes.transform.quantize import Quantize
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import parts_of
from q2.runs import load_denoiser, prepare

__all__ = ["export"]

_COMPONENTS = ("transformer", "unet")


def export(source: RunFile | Path, to: str, out: Path, progress: Progress = silent) -> Exported:
    """Write what a run file quantizes, or a folder that ``q2 transform --save`` made, in the format `to`.

    Of the run file's passes only those that quantize are run. Raises `Q2Error`: a format that nobody offers with the
    nearest name, a folder with nothing quantized in it, and whatever the exporter cannot do.
    """
    if isinstance(source, Path):
        exporter = _exporter(Plugins(), to)
        return exporter.export(_saved(source), out, progress)
    plan = prepare(source)
    exporter = _exporter(plan.plugins, to)
    denoiser = load_denoiser(plan)
    graph = trace(denoiser.model, denoiser.example_inputs())
    ctx = PassContext(plan.plugins, denoiser, plan.settings.seed, progress, plan.settings.prec)
    passes = [(title, step) for title, step in plan.passes if step.name == Quantize.name]
    PassManager(passes, ctx, False).run(graph)
    if all(part.option.is_none for module in denoiser.model.modules() for part in parts_of(module)):
        raise ConfigError(f"{source.name}: passes: nothing is quantized, there is nothing to export")
    return exporter.export(denoiser, out, progress)


def _exporter(plugins: Plugins, name: str) -> Exporter:
    return plugins.exporters.load(name)()


def _saved(folder: Path) -> Denoiser:
    """Return the denoiser of a folder that q2 saved, in the dtype in which it was saved."""
    checkpoint = Checkpoint(str(folder))
    component, name = checkpoint.component(_COMPONENTS)
    checkpoint.check(component, name)
    quantized = checkpoint.config(component).get("quantization_config")
    if not isinstance(quantized, dict) or not quantized.get("layers"):
        raise CheckpointError(f"{folder}: nothing in it is quantized; q2 transform --save makes such folders")
    return load(checkpoint=str(folder), dtype=str(quantized.get("dtype", "float32")))
