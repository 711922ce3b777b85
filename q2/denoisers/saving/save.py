"""Saves a denoiser whose layers are quantized: a complete diffusers folder with packed weights."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError

from q2.denoisers.base import Denoiser
from q2.denoisers.saving.loaded import unsettle
from q2.denoisers.saving.places import put
from q2.denoisers.silence_libraries import quiet
from q2.errors import CheckpointError, Q2Error, why
from q2.files import creating
from q2.graph.shared import shared_places
from q2.plugins import Plugins, current
from q2.progress import Progress, silent
from q2.quant.formatted import Formatted
from q2.quant.packed.layers import Packed, pack_layer, unpack_layer
from q2.quant.simulated import Quantized, Simulated

__all__ = ["Saved", "check_folder", "make_plain", "packed", "save_packed", "saved_activations"]


def check_folder(folder: Path) -> None:
    """Raise `CheckpointError` if `folder` exists and is not an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder}: already exists; choose another place, or remove it")


class Saved(NamedTuple):
    """What denoiser and quantized components take in a folder, in bytes: weight files, and their quantized layers."""

    files: int
    packed: int


def save_packed(
    denoiser: Denoiser,
    folder: Path,
    prec: int = 16,
    progress: Progress = silent,
    activations: Mapping[str, Any] | None = None,
    *,
    original: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
) -> Saved:
    """Write the pipeline of a denoiser with simulated layers into `folder`, their weights packed.

    Of a checkpoint that is a component alone the component is written.

    `activations` and `original` are kept with it, see `Q2Config`, and so is which of `plugins` (None: the denoiser's)
    each quantizer came from; a model that was loaded from a saved folder keeps that folder's `original`. The whole
    folder is written or nothing; the denoiser is afterwards what it was. Raises `CheckpointError` for a folder that is
    not empty or cannot be written, `Q2Error` for weights on meta.
    """
    check_folder(folder)
    model: Any = denoiser.model
    pipeline = model if denoiser.checkpoint and denoiser.checkpoint.is_alone else denoiser.pipeline()
    dtype = str(denoiser.dtype).removeprefix("torch.")
    try:
        given = plugins or denoiser.plugins
        kept = packed(model, dtype, prec, progress, activations, original=original, plugins=given)
        parts = {} if pipeline is model else dict(pipeline.components)
        with ExitStack() as stack:
            size = stack.enter_context(kept)
            for name, part in parts.items():
                if part is not model and _is_simulated(part):
                    size += stack.enter_context(_packed_part(name, part, prec, given))
            beside = stack.enter_context(creating(folder))
            with quiet():
                pipeline.save_pretrained(beside, safe_serialization=True)
    except (OSError, SafetensorError) as error:  # which safetensors raises on a full disk
        raise CheckpointError(f"{folder}: cannot be written: {why(error)}") from error
    places = [name for name, part in parts.items() if part is model or _is_simulated(part)] or [""]
    return Saved(sum(file.stat().st_size for name in places for file in (folder / name).glob("*.safetensors")), size)


@contextmanager
def packed(
    model: Any,
    dtype: str,
    prec: int = 16,
    progress: Progress = silent,
    activations: Mapping[str, Any] | None = None,
    *,
    original: Mapping[str, Any] | None = None,
    plugins: Plugins | None = None,
) -> Iterator[int]:
    """Let a diffusers model have packed layers where it has simulated ones, so that `save_pretrained` saves those.

    Yields what the packed layers take, in bytes. Raises `Q2Error`, with the layer's name, for one that cannot be.
    """
    from q2.denoisers.saving.quantizer import Q2Config, Q2Quantizer, layers_table, sources_of

    formatted = next((name for name, module in model.named_modules() if isinstance(module, Formatted)), None)
    if formatted is not None:
        hint = "a folder keeps options of weights alone, such as 'integer-8.4'"
        raise Q2Error(f"{formatted}: computes in number formats of its input, weight or bias; {hint}")
    if adapted := next((name for name, _ in model.named_modules() if name.endswith(".base_layer")), ""):
        layer = adapted.removesuffix(".base_layer")
        raise Q2Error(f"{layer}: an adapter is attached; fuse it and quantize again, or unload it, before saving")
    before: dict[str, Simulated] = {name: m for name, m in model.named_modules() if isinstance(m, Simulated)}
    shared = shared_places(model)
    config, quantizer = model._internal_dict, getattr(model, "hf_quantizer", None)
    try:
        for name in progress(list(before), "pack", len(before)):
            try:
                layer = before[name]
                plain = all(part.option.is_none for part in layer.parts)
                put(model, name, unpack_layer(layer) if plain else pack_layer(layer), shared)
            except Q2Error as error:
                raise Q2Error(f"{name}: {error}") from error
        layers = layers_table(model)
        said = getattr(getattr(quantizer, "quantization_config", None), "original", None)
        settings = Q2Config(
            prec=prec,
            dtype=dtype,
            layers=layers,
            activations=dict(activations or {}),
            quantizers=sources_of(model, plugins or current()),
            shared=shared,
            original=said or dict(original or {}),
        )
        model.register_to_config(quantization_config=settings)
        model.hf_quantizer = Q2Quantizer(settings)
        model.hf_quantizer.own(model)
        yield sum(cast(Packed, model.get_submodule(name)).bytes for name in layers)
    finally:
        for name, module in before.items():
            put(model, name, module, shared)
        model._internal_dict = config
        if quantizer is None:
            vars(model).pop("hf_quantizer", None)
        else:
            model.hf_quantizer = quantizer


@contextmanager
def _packed_part(name: str, part: Any, prec: int, plugins: Plugins | None) -> Iterator[int]:
    """Let another part of the pipeline, of transformers or diffusers, have packed layers, as `packed` does."""
    dtype = str(part.dtype).removeprefix("torch.")
    if hasattr(part, "_internal_dict"):
        with packed(part, dtype, prec, plugins=plugins) as size:
            yield size
        return
    from q2.denoisers.saving.quantizer import Q2Config, layers_table, sources_of
    from q2.denoisers.saving.transformers import Q2Transformers

    before = {each: module for each, module in part.named_modules() if isinstance(module, Simulated)}
    shared = shared_places(part)
    try:
        for each, layer in before.items():
            try:
                put(part, each, pack_layer(layer), shared)
            except Q2Error as error:
                raise Q2Error(f"{name}: {each}: {error}") from error
        layers, sources = layers_table(part), sources_of(part, plugins or current())
        config = Q2Config(prec=prec, dtype=dtype, layers=layers, quantizers=sources, shared=shared)
        part.config.quantization_config, part.hf_quantizer = config, Q2Transformers(config)
        yield sum(cast(Packed, part.get_submodule(each)).bytes for each in layers)
    finally:
        for each, module in before.items():
            put(part, each, module, shared)
        if before:
            vars(part.config).pop("quantization_config", None)
            part.hf_quantizer = None


def _is_simulated(part: object) -> bool:
    return isinstance(part, torch.nn.Module) and any(isinstance(each, Simulated) for each in part.modules())


def saved_activations(model: Any) -> dict[str, Any]:
    """Return the options for activations that a model's folder was saved with; none for one that q2 did not save."""
    config = model.config.get("quantization_config", {})
    config = config if isinstance(config, Mapping) else config.to_dict()
    return dict(config.get("activations", {})) if config.get("quant_method") == "q2" else {}


def make_plain(model: Any, dtype: torch.dtype, progress: Progress = silent) -> int:
    """Turn a diffusers model's simulated and packed layers into plain ones of `dtype`, in place; return how many."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Quantized)]
    shared = shared_places(model)
    for name, module in progress(layers, "dequantize", len(layers)):
        put(model, name, unpack_layer(module).to(dtype), shared)
    vars(model).pop("hf_quantizer", None)
    unsettle(model)
    return len(layers)
