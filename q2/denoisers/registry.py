"""Find a denoiser by name, or make one of any diffusers model that is named by its class or its checkpoint."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from q2.arguments import unexpected
from q2.denoisers.base import Denoiser, Weights
from q2.denoisers.checkpoints.selection import Lora, Selection
from q2.denoisers.kinds import DENOISERS
from q2.errors import ConfigError
from q2.plugins import Plugins, current

__all__ = ["load"]

DEFAULT = "digits-dit"


def load(
    name: str = "",
    checkpoint: str = "",
    *,
    model: str = "",
    config: str | Mapping[str, Any] = "",
    component: str = "",
    arguments: Mapping[str, Any] | None = None,
    weights: Weights = "pretrained",
    tiny: bool = False,
    dtype: str = "float32",
    device: str = "auto",
    refiner: str = "",
    subfolder: str = "",
    variant: str = "",
    revision: str = "",
    loras: Sequence[Lora | Mapping[str, Any]] = (),
    plugins: Plugins | None = None,
) -> Denoiser:
    """Return the denoiser called `name`, or one of any other diffusers model.

    Without a name, `model` (``package.module:Class``) with its `config` (a table, a config.json, or its folder) is
    built with random weights or on meta, and `checkpoint` is loaded as the class that its model_index.json names: a
    local pipeline folder, a component's folder alone, a single .safetensors file (`config` is a pipeline folder or Hub
    id with its configs) or a Hub id. `component` says which part of the pipeline, if not its transformer or unet;
    `subfolder`, `variant`, `revision` and `loras` are as `Selection` says. Where nothing is said it is ``digits-dit``.
    `arguments` are given to the pipeline's call, by their names in diffusers. `plugins` has the denoisers, and the
    quantizers of a folder that q2 saved; see `q2.plugins.use`.

    Raises `PluginError` with the nearest name, `ConfigError` for what does not go together.

    >>> load("digits-dit").protocol.steps > 0
    True
    >>> load("sdxl", weights="meta").model.device
    device(type='meta')
    """
    if not isinstance(name, str):
        raise unexpected("name", name, "a denoiser's name, such as 'digits-dit'")
    if model and name:
        raise ConfigError(f"name {name!r} and model {model!r} both name a denoiser; leave one out")
    of_file = isinstance(config, str) and Path(checkpoint).is_file()
    if config and not model and not of_file:
        raise ConfigError("config needs model, the class that it is for, or a checkpoint that is a single file")
    selection = Selection.of(
        subfolder=subfolder, variant=variant, revision=revision, config=str(config) if of_file else "", loras=loras
    )
    if not name and (model or checkpoint):
        from q2.denoisers.other import Other

        if refiner:
            raise ConfigError(f"refiner {refiner!r}: needs a denoiser by name, such as 'sdxl'")
        table = config if model else ""
        other = Other(
            checkpoint,
            model=model,
            config=table,
            component=component,
            weights=weights,
            tiny=tiny,
            dtype=dtype,
            device=device,
            selection=selection,
        )
        other.plugins, other.pipeline_arguments = plugins, dict(arguments or {})
        return other
    kind = (plugins or current()).of(DENOISERS).load(name or DEFAULT)
    more: dict[str, Any] = {"refiner": refiner} if refiner else {}
    more |= {"selection": selection} if selection != Selection() else {}
    if component and component != kind.component:
        if "component" not in inspect.signature(kind).parameters:
            raise ConfigError(f"component {component!r}: the denoiser {kind.name!r} is its pipeline's {kind.component}")
        more["component"] = component
    denoiser = kind(checkpoint, weights=weights, tiny=tiny, dtype=dtype, device=device, **more)
    denoiser.plugins, denoiser.pipeline_arguments = plugins, dict(arguments or {})
    return denoiser
