"""Any other denoiser of diffusers: named by its class and config, or by a checkpoint whose index names the class."""

import importlib
import inspect
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from q2.denoisers.base import Denoiser, Protocol, Samples, Weights
from q2.denoisers.checkpoints.checkpoint import read_config
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.family import built, known
from q2.denoisers.inputs.derive import example_inputs
from q2.denoisers.prompts import Ask
from q2.errors import ConfigError, did_you_mean
from q2.progress import Progress, silent

__all__ = ["Other"]

_COMPONENTS = ("transformer", "unet")
_TIMES = ("t", "input_ids")  # ZImage's timestep; UVit denoises tokens without one


class Other(Denoiser):
    """A diffusers model that no family knows; its example inputs are derived from signature and config.

    Images come from its own pipeline where there is a checkpoint; q2 does not know what to ask it for, so `generate` is
    for a plugin to write.
    """

    name: ClassVar[str] = "other"
    component: ClassVar[str] = "transformer"
    protocol: ClassVar[Protocol] = Protocol(steps=20, guidance=1.0)

    def __init__(
        self,
        checkpoint: str = "",
        *,
        model: str = "",
        config: str | Mapping[str, Any] = "",
        weights: Weights = "pretrained",
        tiny: bool = False,
        dtype: str = "float32",
        device: str = "auto",
        selection: Selection | None = None,
    ) -> None:
        """Choose the class: `model` with `config`, or a `checkpoint`. Raises `ConfigError`, `CheckpointError`."""
        if tiny:
            raise ConfigError("tiny is for the families; give a config of the width that you want")
        if model and checkpoint:
            raise ConfigError(f"checkpoint {checkpoint!r} names its own class; leave out model {model!r}")
        if model and weights == "pretrained":
            weights = "random"
        super().__init__(checkpoint, weights=weights, dtype=dtype, device=device, selection=selection)
        self._index = self.checkpoint or (self.checkpoint_at(checkpoint) if checkpoint else None)
        self._model = model
        self._config = config

    @classmethod
    def default_checkpoint(cls) -> str:
        """Raise `ConfigError`: there is none."""
        raise ConfigError("no denoiser is named: give name, checkpoint, or model with config")

    @property
    def label(self) -> str:
        """The name of the class."""
        return self.class_name.partition(":")[2]

    @cached_property
    def class_name(self) -> str:
        """The class, as ``package.module:Class``."""
        return self._model or f"diffusers:{self._found[1]}"

    @cached_property
    def _found(self) -> tuple[str, str]:
        """The pipeline's component that denoises, and the name of its class."""
        assert self._index is not None
        return self._index.component(_COMPONENTS)

    @cached_property
    def stored(self) -> StoredWeights | None:
        """The weights as they lie in the checkpoint; None without one."""
        return self.checkpoint.stored(self._found[0]) if self.checkpoint else None

    def load_model(self) -> nn.Module:
        """Load from the checkpoint, or build from the config. Raises `ConfigError` for a class that is no denoiser."""
        kind = _class(self.class_name)
        if self.checkpoint is None:
            table = _table(self._config, kind) if self._index is None else self._saved(kind)
            return self._built(kind, table)
        return self.checkpoint.load_component(kind, self._found[0], self.dtype).to(self.device)

    def _saved(self, kind: Any) -> dict[str, Any]:
        assert self._index is not None
        return known(kind, self._index.config(self._found[0]))

    def _built(self, kind: Any, table: Mapping[str, Any]) -> nn.Module:
        try:
            return built(kind, table, self)
        except Exception as error:  # whatever its constructor makes of a config that is not for it
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise ConfigError(f"model {self.class_name!r} cannot be built from config: {reason}") from error

    def load_pipeline(self, model: nn.Module) -> Any:
        """Load the checkpoint's pipeline. Raises `ConfigError` where there is none."""
        if self.checkpoint is None:
            raise ConfigError(f"{self.class_name}: a model alone makes no images; give a checkpoint with a pipeline")
        import diffusers

        self.checkpoint.check_pipeline()
        component, name = self._found[0], self.checkpoint.pipeline_class()
        kind = getattr(diffusers, name, diffusers.DiffusionPipeline)
        pipeline = self.checkpoint.load_pipeline(kind, self.dtype, {component: model}, variant_of=component)
        return pipeline.to(self.device)

    def example_inputs(self, batch: int = 1, *, size: int | None = None, tokens: int = 9) -> Mapping[str, object]:
        """Derive the inputs. Raises `TraceError` for one that the config says nothing about."""
        return example_inputs(self.model, batch, size=size, tokens=tokens)

    def generate(
        self,
        count: int,
        *,
        first: int = 0,
        seed: int = 0,
        steps: int | None = None,
        batch: int = 100,
        ask: Ask | None = None,
        progress: Progress = silent,
    ) -> Samples:
        """Raise `ConfigError`: what to ask the pipeline for is a plugin's to say."""
        raise ConfigError(
            f"{type(self.model).__name__}: q2 does not know what its pipeline takes; set samples.images = 0, "
            "or give a Denoiser in a plugin"
        )


def _class(name: str) -> Any:
    """Import ``package.module:Class``, a diffusers model. Raises `ConfigError`."""
    from diffusers import ModelMixin

    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's own may fail in any way
        reason = str(error).split("\n")[0]
        raise ConfigError(f"model {name!r}: expected package.module:Class ({reason})") from error
    if not (isinstance(kind, type) and issubclass(kind, ModelMixin) and issubclass(kind, nn.Module)):
        raise ConfigError(f"model {name!r} is no diffusers model (ModelMixin)")
    inputs = inspect.signature(kind.forward).parameters
    if not any("time" in given or given in _TIMES for given in inputs):
        raise ConfigError(f"model {name!r} is no denoiser: its forward takes no timestep")
    return kind


def _table(config: str | Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Return constructor arguments from a table, where every key must be one, a config.json, or its folder."""
    if isinstance(config, Mapping):
        taken = known(kind, config)
        wrong = next((name for name in config if name not in taken), None)
        if wrong is not None:
            near = did_you_mean(wrong, list(inspect.signature(kind.__init__).parameters))
            raise ConfigError(f"config.{wrong}: {kind.__name__} takes no such argument{near}")
        return taken
    if not config:
        return {}
    path = Path(config) / "config.json" if Path(config).is_dir() else Path(config)
    try:
        return known(kind, read_config(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {config!r}: cannot be read as a JSON object: {error}") from error
