"""A module as q2 handles it: where it comes from, its weights, its data, and example inputs to trace it with."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from q2.denoisers.base import device_of
from q2.errors import CheckpointError, ConfigError, did_you_mean, why
from q2.graph.fingerprint import fingerprint
from q2.models.data.splits import Data, load_data
from q2.models.imported import called, shipped_model
from q2.settings import DataSettings, ModelSettings

__all__ = ["Model", "load_model", "load_state"]

_EXAMPLES = 4


@dataclass(eq=False)
class Model:
    """A module, called `label`, in evaluation mode, with its data if it has any.

    `source` says where the weights come from; `inputs` are shapes of the forward's arguments, where data do not say.
    """

    label: str
    module: nn.Module
    data: Data | None
    source: str
    device: torch.device
    inputs: Mapping[str, tuple[int, ...]]

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights as loaded; read it before a pass changes them."""
        return fingerprint(self.module)

    def need_data(self, why: str) -> Data:
        """Return the data. Raises `ConfigError` where the run names none."""
        if self.data is None:
            raise ConfigError(f"{why} needs data; name them in [data], by name or import")
        return self.data

    def example_inputs(self) -> dict[str, Tensor]:
        """Return keyword arguments of the forward: zeros of the shapes in `inputs`, else the first samples.

        Raises `ConfigError` without both, and for a forward without arguments.
        """
        if self.inputs:
            return {name: torch.zeros(shape, device=self.device) for name, shape in self.inputs.items()}
        if self.data is None:
            raise ConfigError(
                "inputs: without data, say the shapes of the forward's arguments, as in inputs.x = [4, 16]"
            )
        first = next(iter(inspect.signature(self.module.forward).parameters), None)
        if first is None:
            raise ConfigError(f"{type(self.module).__name__}: its forward takes no argument")
        return {first: self.data.first(_EXAMPLES).to(self.device)}


def load_model(settings: ModelSettings, data: DataSettings | Data | None = None, seed: int = 0) -> Model:
    """Return the model of a run file's `[model]` and `[data]`.

    Random weights are drawn from `seed`. Raises `ConfigError` for a name that there is not and for a factory that
    fails, `CheckpointError` for weights that do not fit.

    >>> load_model(ModelSettings(name="jsc-tiny")).label
    'jsc-tiny'
    """
    if settings.name and settings.factory:
        raise ConfigError(f"name {settings.name!r} and import {settings.factory!r} both say a model; leave one out")
    if not settings.given:
        raise ConfigError("[model] names no model; say name, or import = 'package:factory'")
    place = shipped_model(settings.name) if settings.name else None
    device = device_of(settings.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = called(place.factory if place else settings.factory, settings.arguments)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{settings.factory!r} returned {type(module).__name__}, expected a torch.nn.Module")
    label = settings.name or settings.factory.partition(":")[2]
    source = _load_weights(module, settings)
    found = data if isinstance(data, Data) else load_data(data or DataSettings(), place.data if place else "")
    return Model(label, module.to(device).eval().requires_grad_(False), found, source, device, settings.inputs)


def _load_weights(module: nn.Module, settings: ModelSettings) -> str:
    wanted = settings.weights or ("pretrained" if settings.name else "")
    if wanted in ("", "random"):
        return "random weights" if settings.name or wanted else "the factory's weights"
    path = Path(wanted)
    if wanted == "pretrained":
        path = Path(str(resources.files("q2") / "models" / "assets" / f"{settings.name}.safetensors"))
        if not settings.name or not path.is_file():
            raise ConfigError(
                f"weights: q2 ships none of {settings.name or settings.factory!r}; name a file, or random"
            )
    load_state(module, path)
    return wanted if wanted == "pretrained" else str(path)


def load_state(module: nn.Module, path: Path) -> None:
    """Load a state dict. Raises `CheckpointError` for a file that cannot be read, and for what does not fit."""
    state = _read_state(path)
    own = module.state_dict()
    for name in own:
        if name not in state:
            raise CheckpointError(f"{path}: no tensor {name!r}{did_you_mean(name, state)}")
    for name, tensor in state.items():
        if name not in own:
            raise CheckpointError(f"{path}: the model has no tensor {name!r}{did_you_mean(name, own)}")
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            raise CheckpointError(f"{path}: the tensor {name!r} has the shape {shapes}")
    module.load_state_dict(state)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {why(error)}") from error
    except Exception as error:
        raise CheckpointError(f"{path}: no safetensors, and no state dict of tensors alone") from error
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise CheckpointError(f"{path}: expected a state dict, name to tensor")
    return {name.removeprefix("model."): tensor for name, tensor in state.items()}
