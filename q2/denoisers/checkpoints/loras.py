"""LoRAs fused into weights before anything looks at them: W + weight · α / r · B A (Hu et al., ICLR'22, eq. 3).

A file's names are turned into diffusers' by the pipeline's own `lora_state_dict`, which knows kohya's and other tools'.
No PEFT is needed.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from q2.denoisers.checkpoints.checkpoint import Checkpoint, counted, shown
from q2.denoisers.checkpoints.hub import Hub
from q2.denoisers.checkpoints.selection import Lora
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError, why
from q2.files import parse_json
from q2.quant.simulated import Quantized

__all__ = ["TEXT_ENCODERS", "check_loras", "fuse_loras"]

_PART = re.compile(r"(?P<layer>.+)\.lora_(?P<side>A|B)\.weight")
_OLD_NAMES = (
    (re.compile(r"\.processor(?=\.)"), ""),
    (re.compile(r"\.to_out_lora\."), ".to_out.0.lora."),
    (re.compile(r"(\.self_attn\.)to_(q|k|v)_lora\."), r"\1\2_proj.lora."),
    (re.compile(r"\.to_(q|k|v)_lora\."), r".to_\1.lora."),
    (re.compile(r"\.lora(_linear_layer)?\.down\."), ".lora_A."),
    (re.compile(r"\.lora(_linear_layer)?\.up\."), ".lora_B."),
    (re.compile(r"\.lora_down\."), ".lora_A."),
    (re.compile(r"\.lora_up\."), ".lora_B."),
)
_DENOISERS = ("unet", "transformer")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass
class _Low:
    """The two factors for a layer, A (r, I, ...) and B (O, r, ...), and α, None where it is r."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    def delta(self, shape: torch.Size) -> Tensor | None:
        """Return B A, float32 and of the weight's `shape`; None where the factors do not fit."""
        if self.down is None or self.up is None or self.up.shape[1] != (rank := self.down.shape[0]):
            return None
        scale = (self.alpha if self.alpha is not None else rank) / rank
        product = self.up.float().reshape(len(self.up), rank) @ self.down.float().reshape(rank, -1)
        if len(self.up) != shape[0] or product.shape[1] != shape[1:].numel():
            return None
        return scale * product.reshape(shape)


def check_loras(loras: Sequence[Lora]) -> None:
    """Raise `CheckpointError` for a LoRA that is no .safetensors file, no folder with one, and no Hub id."""
    for lora in loras:
        path = Path(lora.path)
        if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", lora.path, re.ASCII) or path.suffix == ".safetensors":
            _file(lora)


def fuse_loras(components: Mapping[str, nn.Module], loras: Sequence[Lora], checkpoint: Checkpoint) -> None:
    """Add every LoRA to the weights of `components`, which go by their names in the pipeline; in place.

    Raises `CheckpointError`, with nothing changed, for a LoRA of another model, of another kind (DoRA, LoKr), or
    without anything for a denoiser among `components`.
    """
    for lora in loras:
        read = _read(lora, components, checkpoint)
        deltas = [
            each
            for name, component in components.items()
            for each in _deltas(lora, name, component, read.get(name, {}))
        ]
        with torch.no_grad():
            for weight, delta in deltas:
                weight.copy_(weight.float() + lora.weight * delta.to(weight.device))


def _deltas(lora: Lora, name: str, component: nn.Module, layers: Mapping[str, _Low]) -> list[tuple[Tensor, Tensor]]:
    """Return a component's weights with what is added to them."""
    kind, found, wrong = type(component).__name__, [], []
    if not layers and name in _DENOISERS:
        raise CheckpointError(f"lora {lora.path!r}: has nothing for {name} ({kind})")
    for layer, low in layers.items():
        module = _module(component, layer)
        if isinstance(module, Quantized):
            raise CheckpointError(
                f"lora {lora.path!r}: {layer} is quantized; fuse it into full precision, then quantize"
            )
        weight = getattr(module, "weight", None)
        delta = low.delta(weight.shape) if isinstance(weight, Tensor) else None
        if isinstance(weight, Tensor) and delta is not None:
            found.append((weight, delta))
        else:
            wrong.append(layer)
    if wrong:
        other = "for another model" if len(wrong) > len(layers) / 2 else "not for this model"
        raise CheckpointError(
            f"lora {lora.path!r}: is {other}: of its {len(layers)} layers {len(wrong)} are not in {kind}, "
            f"or of another size: {shown(wrong)}"
        )
    return found


def _module(component: nn.Module, layer: str) -> nn.Module | None:
    """Return a layer by its name; transformers 5 calls its text models without ``text_model``."""
    for name in (layer, layer.removeprefix("text_model.")):
        try:
            return component.get_submodule(name)
        except AttributeError:
            continue
    return None


def _read(lora: Lora, components: Mapping[str, nn.Module], checkpoint: Checkpoint) -> dict[str, dict[str, _Low]]:
    """Return a LoRA's factors by component and layer."""
    path = _file(lora)
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            notes = parse_json((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"lora {lora.path!r}: {path.name} is no whole .safetensors file ({why(error)})"
        ) from error
    odd = sorted(name for name in state if re.search(r"dora_scale|magnitude_vector|\.lokr_|\.hada_|\.oft_", name))
    if odd:
        raise CheckpointError(f"lora {lora.path!r}: is a DoRA, LoKr or LoHa, which q2 cannot fuse: {shown(odd)}")
    state, alphas = _renamed(lora, state, components, checkpoint)
    found: dict[str, dict[str, _Low]] = {}
    strange = []
    own = next((name for name in components if name in _DENOISERS), "")
    for key, tensor in state.items():
        component, layer = _split(key, own)
        if match := _PART.fullmatch(layer):
            low = found.setdefault(component, {}).setdefault(match["layer"], _Low())
            low.down, low.up = (tensor, low.up) if match["side"] == "A" else (low.down, tensor)
        elif layer.endswith(".alpha"):
            alphas[key] = float(tensor)
        else:
            strange.append(key)
    if strange or not found:
        what = f"{counted(strange)} of it are no factors: {shown(strange)}" if strange else "no factors are in it"
        raise CheckpointError(f"lora {lora.path!r}: {what}")
    for key, alpha in alphas.items():
        component, layer = _split(_peft_name(key).partition(".lora_A.")[0].removesuffix(".alpha"), own)
        if layer in found.get(component, {}):
            found[component][layer].alpha = alpha
    for component, layers in found.items():
        for layer, low in layers.items():
            if low.alpha is None:
                low.alpha = _noted(notes, component, layer)
    return found


def _noted(notes: Mapping[str, Any], component: str, layer: str) -> float | None:
    """Return α by the adapter's settings, as diffusers writes them into the file."""
    pattern = next(
        (a for key, a in notes.get(f"{component}.alpha_pattern", {}).items() if re.search(rf"(^|\.){key}$", layer)),
        None,
    )
    alpha = notes.get(f"{component}.lora_alpha") if pattern is None else pattern
    return None if alpha is None else float(alpha)


def _renamed(
    lora: Lora, state: dict[str, Tensor], components: Mapping[str, nn.Module], checkpoint: Checkpoint
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the tensors by diffusers' names, ``<component>.<layer>.lora_A.weight``, and α's by theirs."""
    import diffusers

    pipeline: Any = getattr(diffusers, checkpoint.pipeline or "-", None)
    alphas: Any = {}
    try:
        with quiet():
            if hasattr(pipeline, "lora_state_dict"):
                config = {f"{name}_config": part.config for name, part in components.items() if name == "unet"}
                made = pipeline.lora_state_dict(dict(state), **config)
                parts = made if isinstance(made, tuple) else (made,)
                state, alphas = parts[0], next((p for p in parts[1:] if isinstance(p, dict)), {})
    except (ValueError, KeyError, IndexError, AttributeError, RuntimeError) as error:  # names of another model
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"lora {lora.path!r}: is not for {checkpoint.pipeline}: {reason}") from error
    return {_peft_name(name): tensor for name, tensor in state.items()}, {
        name: float(alpha) for name, alpha in (alphas or {}).items()
    }


def _peft_name(name: str) -> str:
    """Return a tensor's name with ``lora_A`` and ``lora_B``, as PEFT has them since diffusers 0.22.

    >>> _peft_name("unet.mid.attn1.processor.to_out_lora.down.weight")
    'unet.mid.attn1.to_out.0.lora_A.weight'
    >>> _peft_name("text_encoder.encoder.layers.0.mlp.fc1.lora_linear_layer.up.weight")
    'text_encoder.encoder.layers.0.mlp.fc1.lora_B.weight'
    """
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name


def _split(key: str, own: str) -> tuple[str, str]:
    """Return component and layer of a key; one without a component's name is for the denoiser, `own`."""
    head, _, rest = key.partition(".")
    if head in (*_DENOISERS, *TEXT_ENCODERS):
        return head, rest
    return own, key.removeprefix("base_model.model.").removeprefix("diffusion_model.")


def _file(lora: Lora) -> Path:
    path = Path(lora.path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"lora {lora.path!r}: is no .safetensors file, and q2 reads no pickled weights")
        return path
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        usual = [file for file in files if file.name == "pytorch_lora_weights.safetensors"]
        if len(files) == 1 or usual:
            return (usual or files)[0]
        there = shown([file.name for file in files]) if files else "no .safetensors file is in it"
        raise CheckpointError(f"lora {lora.path!r}: name the file: {there}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", lora.path, re.ASCII) or path.suffix == ".safetensors":
        raise CheckpointError(f"lora {lora.path!r}: no such file or folder, and not a Hub id (owner/name)")
    found = Hub(lora.path).find("pytorch_lora_weights.safetensors")
    if found is None:
        raise CheckpointError(f"lora {lora.path!r}: pytorch_lora_weights.safetensors is not in it; name a local file")
    return found
