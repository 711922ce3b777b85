"""How the tests of saving make, read, change and compare saved folders."""

import json
from pathlib import Path
from typing import Any

import q2
from q2.denoisers import Denoiser
from q2.passes.analysis.size import Size
from q2.passes.transform.quantize import Quantize

MIX = {"by": "regex", "default": "uaq-4", r"to_|conv1|proj": "kmeans-c-3", r"ff|conv2": "kmeans-a-3"}


WEIGHTS = "diffusion_pytorch_model.safetensors"


def quantized(denoiser: Denoiser, **rules: str) -> dict[str, Any]:
    """Quantize in place and return what `size` says."""
    graph = q2.trace(denoiser.model, denoiser.example_inputs())
    table = Quantize.from_table(rules or dict(MIX), str)
    return dict(q2.run_passes(graph, [table, Size()], denoiser=denoiser)[-1].report.data)


def same_weights(one: Path, other: Path) -> bool:
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors*"))
    assert files == sorted(path.relative_to(other) for path in other.rglob("*.safetensors*"))
    return all((one / file).read_bytes() == (other / file).read_bytes() for file in files)


def config_of(folder: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in table.items() if key != "_name_or_path"}


def reload(folder: Path) -> None:
    from diffusers import DiTTransformer2DModel

    DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer")


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "transformer" / "config.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    table["quantization_config"] |= changes
    path.write_text(json.dumps(table), encoding="utf-8")
