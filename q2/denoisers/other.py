"""Any other denoiser of diffusers: named by its class and config, or by a checkpoint whose index names the class."""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from q2.denoisers.base import Denoiser, Protocol, Weights
from q2.denoisers.checkpoints.checkpoint import Checkpoint, read_config
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.family import built, known
from q2.denoisers.inputs.derive import example_inputs
from q2.denoisers.pipelines.arguments import Request
from q2.denoisers.pipelines.latents import autoencoder
from q2.denoisers.pipelines.signature import Signature
from q2.denoisers.prompts import PROMPTS, Ask
from q2.denoisers.silence_libraries import quiet
from q2.errors import ConfigError, did_you_mean

__all__ = ["Other"]

_COMPONENTS = ("transformer", "unet", "prior", "decoder")
_STEPS = 20
_CLASSES = ("num_embeds_ada_norm", "num_class_embeds")
_TIMES = ("t", "input_ids")  # ZImage's timestep; UVit denoises tokens without one


class Other(Denoiser):
    """A diffusers model that no family knows; its example inputs are derived from signature and config.

    Images come from the checkpoint's pipeline, which is asked for what the signature of its call says. A plugin's
    subclass gives what that does not tell: more arguments in `conditions`, tensors in `example_inputs`.
    """

    name: ClassVar[str] = "other"
    component: ClassVar[str] = "transformer"

    def __init__(
        self,
        checkpoint: str = "",
        *,
        model: str = "",
        config: str | Mapping[str, Any] = "",
        component: str = "",
        weights: Weights = "pretrained",
        tiny: bool = False,
        dtype: str = "float32",
        device: str = "auto",
        selection: Selection | None = None,
    ) -> None:
        """Choose the class: `model` with `config`, or a `checkpoint` and which `component` of its pipeline denoises.

        Raises `ConfigError`, `CheckpointError`.
        """
        if tiny:
            raise ConfigError("tiny is for the families; give a config of the width that you want")
        if model and checkpoint:
            raise ConfigError(f"checkpoint {checkpoint!r} names its own class; leave out model {model!r}")
        if model and weights == "pretrained":
            weights = "random"
        super().__init__(checkpoint, weights=weights, dtype=dtype, device=device, selection=selection)
        self._index = self.checkpoint or (self.checkpoint_at(checkpoint) if checkpoint else None)
        self._model = model
        self._wanted = component
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
        return self._index.component((self._wanted,) if self._wanted else _COMPONENTS)

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
        if self._index is None:
            raise ConfigError(f"{self.class_name}: a model alone makes no images; give a checkpoint with a pipeline")
        self._index.check_pipeline()
        kind = _pipeline_class(self._index)  # by its own name: the base class loads optional parts a second time
        parts = {**dict.fromkeys(self._index.lacking), self._found[0]: model}
        pipeline = self._index.load_pipeline(kind, self.dtype, parts, variant_of=self._found[0])
        return pipeline.to(self.device)

    def example_inputs(self, batch: int = 1, *, size: int | None = None, tokens: int = 9) -> Mapping[str, object]:
        """Derive the inputs. Raises `TraceError` for one that the config says nothing about."""
        return example_inputs(self.model, batch, size=size, tokens=tokens)

    # What its pipeline is asked for:

    @cached_property
    def signature(self) -> Signature | None:
        """What the pipeline takes; None for a model alone. Raises `ConfigError` for one that is not diffusers' own."""
        if self._index is None or self._index.is_alone:
            return None
        return Signature.of(_pipeline_class(self._index))

    @cached_property
    def protocol(self) -> Protocol:  # type: ignore[override]
        """The steps and guidance scale in ``denoiser.arguments``, else the pipeline's defaults."""
        if self.signature is None:
            return Protocol(steps=_STEPS, guidance=1.0)
        taken, guidance = self.signature, self.signature.guidance
        steps = self.pipeline_arguments.get("num_inference_steps") or taken.default("num_inference_steps") or _STEPS
        return Protocol(
            int(steps), float(self.pipeline_arguments.get(guidance, taken.default(guidance)) if guidance else 1.0)
        )

    @cached_property
    def prompts(self) -> Sequence[str]:  # type: ignore[override]
        """The prompts that are drawn in turn, where the pipeline takes any."""
        return PROMPTS if self.signature is not None and self.signature.condition == "prompt" else ()

    @property
    def classes(self) -> int:
        """The number of classes; 0 for a denoiser that draws none."""
        if self.signature is None or "class_labels" not in self.signature:
            return 0
        config = self._index.config(self._found[0]) if self._index else {}
        return int(next((found for key in _CLASSES if isinstance(found := config.get(key), int)), 0))

    @property
    def draws_alone(self) -> bool:
        """Whether the pipeline is asked for one image a call."""
        return self.signature is not None and self.signature.is_alone

    def check_classes(self, ask: Ask) -> None:
        """Raise `ConfigError` for what the pipeline does not take; nothing is loaded."""
        if self.signature is not None:
            self.signature.check(self.pipeline_arguments)
            self.signature.check_ask(ask, self.classes)
            if type(self).conditions is Other.conditions:
                self._check_odd(self.signature, self.pipeline_arguments)

    def check(self, ask: Ask) -> None:
        """Raise `ConfigError` for what the pipeline cannot be asked for, and for an argument that q2 cannot give."""
        pipeline, taken = self.pipeline(), self.signature
        assert taken is not None
        self.check_classes(ask)
        given = self.conditions(range(1), ask)
        self._check_odd(taken, given)
        names = [name for name in pipeline.components if "text_encoder" in name or name == "bert"]
        if "prompt" in given and names and all(getattr(pipeline, name, None) is None for name in names):
            raise ConfigError(
                f"{taken.name} has no text encoder here and takes no prompt; a plugin's Denoiser.conditions gives "
                "embeddings in its place"
            )
        scale = self._scale
        if ask.size is not None and (ask.size < scale or ask.size % scale):
            raise ConfigError(f"size {ask.size} is no multiple of {scale}, which a latent stands for")

    @staticmethod
    def _check_odd(taken: Signature, given: Mapping[str, object]) -> None:
        odd = taken.odd(given)
        if odd:
            raise ConfigError(
                f"{taken.name} needs {' and '.join(odd)}, which q2 cannot make; a plugin's Denoiser.conditions gives it"
            )

    def conditions(self, images: range, ask: Ask) -> Mapping[str, Any]:
        """Return what says what is drawn: prompts or classes, images to start from, and ``denoiser.arguments``."""
        things = ask.prompts or ask.classes or tuple(self.prompts) or tuple(range(self.classes))
        return self._request(ask).conditions(images, ask.turn(things, images) if things else [])

    def labels(self, images: range, ask: Ask) -> list[int]:
        """Return the class, or the number of the prompt, of every image; 0 where there are none."""
        things = ask.classes or tuple(range(len(ask.prompts or self.prompts) or self.classes or 1))
        return ask.turn(things, images)

    def draw(
        self, conditions: Mapping[str, Any], generators: list[torch.Generator], *, steps: int, guidance: float
    ) -> Any:
        """Return the pipeline's output, with images in it."""
        taken = self.signature
        assert taken is not None
        made = {**conditions, **self._request(Ask()).numbers(steps, guidance)}
        if "generator" in taken:
            made["generator"] = generators[0] if self.draws_alone else generators
        if "output_type" in taken:
            made["output_type"] = "np"
        return self.pipeline()(**made)

    def _request(self, ask: Ask) -> Request:
        taken = self.signature
        assert taken is not None
        side: Any = getattr(self.pipeline(), "default_sample_size", None) or getattr(
            getattr(self.model, "config", None), "sample_size", None
        )
        sides = list(side) if isinstance(side, Sequence) else [side or 64] * 2
        size = []
        for name, latent in zip(("height", "width"), sides, strict=False):
            size.append(
                int(ask.size or self.pipeline_arguments.get(name) or taken.default(name) or latent * self._scale)
            )
        return Request(taken, ask, self.pipeline_arguments, (size[0], size[-1]))

    @property
    def _scale(self) -> int:
        """How many pixels a side a latent stands for: 1 where the pipeline draws pixels."""
        pipeline = self.pipeline()
        found = getattr(pipeline, "vae_scale_factor", None) or getattr(pipeline, "vae_scale_factor_spatial", None)
        return int(found or 8) if autoencoder(pipeline) is not None else 1


def _pipeline_class(index: Checkpoint) -> Any:
    """Return the class of a checkpoint's pipeline. Raises `ConfigError`."""
    import diffusers

    with quiet():  # transformers says so where torchvision is missing for a part that is not used
        kind = getattr(diffusers, index.pipeline, None)
    if not isinstance(kind, type):
        raise ConfigError(f"{index.where}: the pipeline {index.pipeline or 'of its own code'} is none of diffusers")
    return kind


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
