"""An export: a run with a recipe, or a folder that q2 saved, written in another format."""

from dataclasses import replace
from pathlib import Path

from q2.denoisers import Denoiser, load
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.saving.original import SavedFolder
from q2.errors import CheckpointError, ConfigError
from q2.exporters import Exported
from q2.exporters.kinds import EXPORTERS
from q2.passes import PassManager, Step, is_transform
from q2.plugins import Plugins
from q2.quant import parts_of
from q2.session.bank import open_bank
from q2.session.checks import check_passes
from q2.session.components import check_parts, quantize_parts_of
from q2.session.drift import drift_of
from q2.session.session import Session

__all__ = ["export"]


def export(session: Session, to: str, out: Path, saved: Path | None = None) -> Exported:
    """Write what a session quantizes, or a folder that ``q2 transform --save`` made, in the format `to`.

    Of the run file's passes the transforms are run, and what they require; of a `saved` folder the session's plugins
    have the quantizers. Raises `Q2Error`: a format that nobody offers with the nearest name, nothing quantized, and
    whatever the exporter cannot do.
    """
    exporter = session.plugins.of(EXPORTERS).load(to)()
    exporter.check(out)
    if saved is not None:
        return exporter.export(_saved(saved, session.plugins), out, session.progress)
    check_passes(session, transforms=True)
    check_parts(session)
    session = session.fork()
    bank = open_bank(session) if session.is_quantizing else None
    with session.at():
        ctx = session.with_rows(session.context(bank), is_transform)
        PassManager(session.passes, ctx, only=is_transform).run(session.graph)
    if drift := drift_of(session, session.graph):
        session.show(Step("recipe", 0, drift.summary))
    parts = (part for module in session.denoiser.model.modules() for part in parts_of(module))
    if all(part.option.is_none for part in parts):
        with session.at("passes"):
            raise ConfigError("nothing is quantized, there is nothing to export")
    quantize_parts_of(session, session.denoiser)
    done = exporter.export(session.denoiser, out, session.progress)
    rewrites = session.graph.rewrites
    left = f"; without {', '.join(rewrites)}, which only q2 can run" if rewrites else ""
    return replace(done, summary=done.summary + left)


def _saved(folder: Path, plugins: Plugins) -> Denoiser:
    """Return the denoiser of a folder that q2 saved, in the dtype in which it was saved."""
    found = SavedFolder.find(str(folder))
    checkpoint = Checkpoint(str(folder))
    layers = checkpoint.config(found.component).get("quantization_config") if found else None
    if found is None or not isinstance(layers, dict) or not layers.get("layers"):
        raise CheckpointError(f"{folder}: nothing in it is quantized; q2 transform --save makes such folders")
    checkpoint.check(found.component, checkpoint.class_of(found.component))
    return load(checkpoint=str(folder), component=found.component, dtype=found.dtype, plugins=plugins)
