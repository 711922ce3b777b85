"""The exporter ``dequantized``: a plain float16 pipeline folder, which any tool reads."""

import json
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from torch import nn

from q2.denoisers import Denoiser
from q2.denoisers.saving.save import check_folder, make_plain
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError, why
from q2.exporters.base import Exported, Exporter
from q2.files import creating, read_json
from q2.progress import Progress, silent

__all__ = ["Dequantized"]


class Dequantized(Exporter):
    """A diffusers folder in float16 whose weights are the quantized ones; it is as large as the original."""

    name: ClassVar[str] = "dequantized"

    def check(self, out: Path) -> None:
        """Raise `CheckpointError` if `out` exists and is not an empty folder."""
        check_folder(out)

    def export(self, denoiser: Denoiser, out: Path, progress: Progress = silent) -> Exported:
        """Write the folder; `denoiser` is a plain float16 one afterwards. Raises `CheckpointError`."""
        self.check(out)
        pipeline, model = denoiser.pipeline(), denoiser.model
        count = make_plain(model, torch.float16, progress)
        others = [part for part in pipeline.components.values() if isinstance(part, nn.Module) and part is not model]
        count += sum(make_plain(part, torch.float16) for part in others)
        try:
            with quiet(), creating(out) as beside:
                pipeline.to(dtype=torch.float16).save_pretrained(beside, safe_serialization=True)
                for config in beside.glob("*/config.json"):
                    _load_as_float32(config)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{out}: cannot be written: {why(error)}") from error
        size = sum(file.stat().st_size for file in out.rglob("*.safetensors"))
        return Exported(f"{out}/: {size / 1e6:.2f} MB, {count} layers dequantized to float16")


def _load_as_float32(config: Path) -> None:
    """Let transformers load what it would load as float16 without a dtype as diffusers does, as float32.

    Without this text encoders are half and denoisers float, and the pipeline stops at their first meeting.
    """
    table = read_json(config)
    for key in ("dtype", "torch_dtype"):
        if table.get(key) == "float16":
            config.write_text(json.dumps({**table, key: "float32"}, indent=2) + "\n", encoding="utf-8")
