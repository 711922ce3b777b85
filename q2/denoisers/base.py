"""The base class of denoisers: a diffusers model with its pipeline, example inputs and evaluation protocol."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.checkpoints.loras import TEXT_ENCODERS, check_loras, fuse_loras
from q2.denoisers.checkpoints.open import checkpoint_at
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.judge import Judge
from q2.denoisers.pipelines.sampling import sampled
from q2.denoisers.prompts import Ask
from q2.denoisers.samples import Samples, image_generator
from q2.errors import CheckpointError, ConfigError
from q2.graph.fingerprint import fingerprint
from q2.plugins import Plugins, use
from q2.progress import Progress, silent

__all__ = ["Denoiser", "Protocol", "Samples", "Weights", "device_of", "image_generator"]

Weights = Literal["pretrained", "random", "meta"]


@dataclass(frozen=True)
class Protocol:
    """How images are made for comparison: denoising steps and guidance scale."""

    steps: int
    guidance: float


class Denoiser(ABC):
    """A denoiser with its weights. The model is made on first use; the pipeline shares it.

    Plugins subclass this and hand the class over in `q2_denoisers`.
    """

    name: ClassVar[str]
    component: ClassVar[str]
    protocol: ClassVar[Protocol]
    refinable: ClassVar[bool] = False
    """Whether a refiner may finish its images."""

    pipeline_arguments: Mapping[str, Any] = MappingProxyType({})
    """What its pipeline is given beside what q2 gives: ``denoiser.arguments``."""

    prompts: Sequence[str] = ()
    """The default prompts, taken in turn; none where it draws classes or needs neither."""

    drawing: range = range(0)
    """The numbers of the images that its pipeline is at."""

    plugins: Plugins | None = None
    """Where the quantizers of a checkpoint with packed weights are found; None: see `q2.plugins.use`."""

    def __init__(
        self,
        checkpoint: str = "",
        *,
        weights: Weights = "pretrained",
        tiny: bool = False,
        dtype: str = "float32",
        device: str = "auto",
        refiner: str = "",
        selection: Selection | None = None,
    ) -> None:
        """Choose the weights.

        ``pretrained`` ones come from `checkpoint`: a local pipeline folder, a component's folder alone, a single
        .safetensors file, a Hub id, or the denoiser's own (empty); `selection` says which files of it, and what is
        fused into them.
        ``random`` ones are drawn from a fixed seed, ``meta`` ones have shapes but no values; both need no files, and
        take the config of `checkpoint` if that is a local folder. `tiny` is the same class at toy width, for tests; it
        has no pretrained weights.

        `refiner` is the checkpoint of a second pipeline that finishes the images, where the denoiser is `refinable`.

        Raises `CheckpointError` for a folder that is no pipeline, `ConfigError` for what does not go together and for
        a device that is not here.
        """
        if weights not in ("pretrained", "random", "meta"):
            raise ConfigError(f"weights {weights!r} is none of pretrained, random, meta")
        if tiny and checkpoint not in ("", self.default_checkpoint()):
            raise ConfigError(f"tiny has no pretrained weights; leave out tiny, or checkpoint {checkpoint!r}")
        if refiner and not self.refinable:
            raise ConfigError(f"refiner {refiner!r}: {self.name} takes none")
        self.weights: Weights = "random" if tiny and weights == "pretrained" else weights
        self.tiny = tiny
        self.dtype = _dtype(dtype)
        self.device = torch.device("meta") if self.weights == "meta" else device_of(device)
        self.given, self.selection = checkpoint, selection or Selection()
        where = checkpoint or (self.default_checkpoint() if self.pretrained else "")
        if self.pretrained and not where:
            raise ConfigError(
                f"the denoiser {self.name!r} has no checkpoint of its own; say checkpoint, "
                'or weights = "random" or "meta"'
            )
        self.checkpoint: Checkpoint | None = self.checkpoint_at(where) if self.pretrained else None
        if self.selection.loras and self.weights == "random":
            raise ConfigError("loras are fused into pretrained weights, not random ones; leave one of them out")
        check_loras(self.selection.loras)
        self.refiner = Checkpoint(refiner) if refiner else None
        self._pipeline: Any = None

    @property
    def pretrained(self) -> bool:
        """Whether the weights come from a checkpoint."""
        return self.weights == "pretrained"

    @property
    def source(self) -> str:
        """Where the weights come from, for people."""
        size = ", tiny" if self.tiny else ""
        place = self.checkpoint.where if self.checkpoint else f"{self.weights} weights{size}"
        return " + ".join((place, *map(str, self.selection.loras if self.checkpoint else ())))

    @property
    def has_pipeline(self) -> bool:
        """Whether there is a pipeline around the model, or one can be made, that makes images."""
        return self.weights != "meta" and not (self.checkpoint and self.checkpoint.is_alone)

    def checkpoint_at(self, where: str) -> Checkpoint:
        """Return the checkpoint at `where`, of the run's selection. Raises `CheckpointError`."""
        return checkpoint_at(where, self.selection)

    @property
    def label(self) -> str:
        """What recipes and reports call it."""
        return self.name

    @classmethod
    @abstractmethod
    def default_checkpoint(cls) -> str:
        """Return the checkpoint that is used when a run names none."""

    @abstractmethod
    def load_model(self) -> nn.Module:
        """Make the denoiser alone, in `dtype`, on `device`, with the weights that were chosen."""

    @abstractmethod
    def load_pipeline(self, model: nn.Module) -> Any:
        """Make the pipeline around `model`."""

    @abstractmethod
    def example_inputs(self, batch: int = 1) -> Mapping[str, object]:
        """Return keyword arguments of the model's forward for `batch` images, the same at every call."""

    def check(self, ask: Ask) -> None:
        """Raise `ConfigError` if it cannot draw what is asked for."""

    def check_classes(self, ask: Ask) -> None:
        """Raise `ConfigError` for classes, or prompts in place of classes, that it cannot draw; nothing is loaded."""

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
        """Make `count` images from number `first` on; image i depends on (`seed`, i) alone, not on the batch size.

        Each is of its class or prompt, in turn. Raises `ConfigError` if it cannot draw what is asked for.
        """
        wanted = ask or Ask()
        self.check(wanted)
        guidance = self.protocol.guidance if wanted.guidance is None else wanted.guidance

        def call(images: range, generators: list[torch.Generator]) -> Any:
            self.drawing = images
            place = getattr(self.pipeline(), "_execution_device", self.device)  # offloading moves no conditions there
            conditions = {
                name: value.to(place) if isinstance(value, Tensor) else value
                for name, value in self.conditions(images, wanted).items()
            }
            return self.draw(conditions, generators, steps=steps or self.protocol.steps, guidance=guidance)

        try:
            return sampled(
                self.pipeline(),
                call,
                lambda images: self.labels(images, wanted),
                range(first, first + count),
                seed=seed,
                batch=batch,
                alone=self.draws_alone,
                progress=progress,
            )
        finally:
            self.drawing = range(0)

    @property
    def draws_alone(self) -> bool:
        """Whether its pipeline is asked for one image a call, since it mixes those of a batch."""
        return False

    @abstractmethod
    def conditions(self, images: range, ask: Ask) -> Mapping[str, Any]:
        """Return the pipeline's arguments that say what these images show: classes, prompts, embeddings, sizes."""

    def labels(self, images: range, ask: Ask) -> list[int]:
        """Return the class, or the number of the prompt, of every image."""
        return [0] * len(images)

    def draw(
        self, conditions: Mapping[str, Any], generators: list[torch.Generator], *, steps: int, guidance: float
    ) -> Any:
        """Return the output of the pipeline, with images in it, for these conditions and generators."""
        numbers = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "np"}
        return self.pipeline()(**{**numbers, **conditions, **self.pipeline_arguments, "generator": generators})

    def judge(self) -> Judge | None:
        """Return the classifier that judges images, where there is one."""
        return None

    @cached_property
    def model(self) -> nn.Module:
        """The diffusers model, in evaluation mode and without gradients. Raises `CheckpointError`."""
        with self._using_plugins():
            model = self.load_model().eval().requires_grad_(False)
        if self.checkpoint is not None and self.selection.loras:
            fuse_loras({self.component: model}, self.selection.loras, self.checkpoint)
        return model

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights as loaded; read it before a pass changes them.

        Weights on meta have none: their shapes are hashed, which no checkpoint's fingerprint equals.
        """
        return fingerprint(self.model)

    @cached_property
    def stored(self) -> StoredWeights | None:
        """The weights as they lie in the checkpoint; None without one. Raises `CheckpointError`."""
        return self.checkpoint.stored(self.component) if self.checkpoint else None

    def exact_weight(self, layer: str) -> Tensor | None:
        """Return a layer's full-precision weight (O, I, ...) as loaded from the checkpoint; None if no file has it."""
        name = f"{layer}.weight"
        if self.stored is None or name not in self.stored:
            return None
        return self.stored[name].to(self.device, self.dtype)

    def pipeline(self) -> Any:
        """Return the diffusers pipeline; it holds the same `model`. Raises `CheckpointError` for weights on meta."""
        if self.weights == "meta":
            raise CheckpointError(f"{self.name}: weights on meta make no images; choose pretrained or random ones")
        if self._pipeline is None:
            with self._using_plugins():
                self._pipeline = self.load_pipeline(self.model)
            if self.checkpoint is not None and self.selection.loras:
                parts = {n: p for n, p in self._pipeline.components.items() if n in TEXT_ENCODERS and p is not None}
                fuse_loras(parts, self.selection.loras, self.checkpoint)
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline

    def _using_plugins(self) -> AbstractContextManager[object]:
        return use(self.plugins) if self.plugins else nullcontext()


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if name not in known:
        raise ConfigError(f"dtype {name!r} is none of {', '.join(known)}")
    return known[name]


def device_of(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` is CUDA where there is one. Raises `ConfigError` if it is not here.

    >>> device_of("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from error
    return device
