"""MASE's networks that q2 ships, by name."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from q2.errors import ConfigError
from q2.models import model as models
from q2.models.imported import MODELS, shipped_model
from q2.settings import ModelSettings

__all__ = ["ALIASES", "MaseModelInfo", "get_model", "get_model_info", "load_model", "named"]

ALIASES = {"jsc-lab4": "jsc-three-linear"}
"""What the walk-throughs call networks that have another name here."""


@dataclass(frozen=True)
class MaseModelInfo:
    """What MASE knows of a model."""

    name: str
    model_source: str = "physical"
    task_type: str = "physical"
    physical_data_point_classification: bool = True
    is_vision_model: bool = False
    is_nlp_model: bool = False
    is_fx_traceable: bool = True


def named(name: str) -> str:
    """Return q2's name of a network. Raises `ConfigError`, with the nearest name."""
    found = ALIASES.get(name, name)
    shipped_model(found)
    return found


def get_model_info(name: str) -> MaseModelInfo:
    """Return what there is to know of a model. Raises `ConfigError` for one that q2 does not ship."""
    images = MODELS[named(name)].data == "digits"
    kind = "vision" if images else "physical"
    return MaseModelInfo(name, kind, kind, not images, images)


def get_model(
    name: str, task: str = "cls", dataset_info: object = None, pretrained: bool = False, checkpoint: str | None = None
) -> nn.Module:
    """Return a network, with q2's trained weights if `pretrained`, a checkpoint's, or random ones (by torch's seed).

    Raises `ConfigError` for a network or task that there is not.
    """
    import torch

    if task not in ("cls", "classification"):
        raise ConfigError(f"task {task!r}: q2's networks classify; expected 'cls'")
    weights = checkpoint or ("pretrained" if pretrained else "random")
    seed = int(torch.initial_seed() % 2**31)
    found = models.load_model(ModelSettings(name=named(name), weights=weights, device="cpu"), seed=seed)
    vars(found.module)["example_inputs"] = found.example_inputs()
    return found.module.requires_grad_()


def load_model(load_name: str, load_type: str = "pl", model: Any = None) -> nn.Module:
    """Load a checkpoint of tensors (Lightning's ``pl``, torch's ``pt``, or safetensors) into `model`, and return it.

    Raises `CheckpointError` for what does not fit, `ConfigError` for MASE's own format ``mz``, which holds code.
    """
    from pathlib import Path

    if load_type == "mz":
        raise ConfigError("load_type 'mz': a pickled graph, which q2 does not load; save its state dict")
    models.load_state(model, Path(load_name))
    found: nn.Module = model
    return found
