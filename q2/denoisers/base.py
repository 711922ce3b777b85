"""What a denoiser is to q2: a diffusers model with its pipeline, example inputs and evaluation protocol."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from q2.denoisers.checkpoint import Checkpoint
from q2.denoisers.judge import DigitsJudge
from q2.errors import ConfigError
from q2.graph.fingerprint import fingerprint
from q2.plugins import Plugins
from q2.progress import Progress, silent

__all__ = ["Denoiser", "Protocol", "Samples", "device_of", "load"]


@dataclass(frozen=True)
class Protocol:
    """How images are made for comparison: denoising steps and guidance scale."""

    steps: int
    guidance: float


@dataclass(frozen=True)
class Samples:
    """Generated images, float (N, C, H, W) in [0, 1] on the CPU, and the class of each, long (N,)."""

    images: Tensor
    labels: Tensor


class Denoiser(ABC):
    """A denoiser with a checkpoint. The model is loaded on first use; the pipeline shares it.

    Plugins subclass this and hand the class over in `q2_denoisers`.
    """

    name: ClassVar[str]
    component: ClassVar[str]
    protocol: ClassVar[Protocol]

    def __init__(self, checkpoint: str = "", *, dtype: str = "float32", device: str = "auto") -> None:
        """Choose the weights: a local pipeline folder, a Hub id, or the denoiser's own (empty).

        Raises `CheckpointError` for a folder that is no pipeline, `ConfigError` for a device that is not here.
        """
        self.dtype = _dtype(dtype)
        self.device = device_of(device)
        self.checkpoint = Checkpoint(checkpoint or self.default_checkpoint())
        self._pipeline: Any = None

    @classmethod
    @abstractmethod
    def default_checkpoint(cls) -> str:
        """Return the checkpoint that is used when a run names none."""

    @abstractmethod
    def load_model(self) -> nn.Module:
        """Load the denoiser alone, in `dtype`, on `device`."""

    @abstractmethod
    def load_pipeline(self, model: nn.Module) -> Any:
        """Load the pipeline around `model`."""

    @abstractmethod
    def example_inputs(self, batch: int = 1) -> Mapping[str, object]:
        """Return keyword arguments of the model's forward for `batch` images, the same at every call."""

    @abstractmethod
    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        steps: int | None = None,
        batch: int = 100,
        progress: Progress = silent,
    ) -> Samples:
        """Make `count` images; image i depends on (`seed`, i) alone, not on the batch size."""

    def judge(self) -> DigitsJudge | None:
        """Return the classifier that says what the images are worth, where there is one."""
        return None

    @cached_property
    def model(self) -> nn.Module:
        """The diffusers model, in evaluation mode and without gradients. Raises `CheckpointError`."""
        return self.load_model().eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """A short name for the weights as loaded; read it before a pass changes them."""
        return fingerprint(self.model)

    def pipeline(self) -> Any:
        """Return the diffusers pipeline; it holds the same `model`."""
        if self._pipeline is None:
            self._pipeline = self.load_pipeline(self.model)
            self._pipeline.set_progress_bar_config(disable=True)
        return self._pipeline


def load(
    name: str, checkpoint: str = "", *, dtype: str = "float32", device: str = "auto", plugins: Plugins | None = None
) -> Denoiser:
    """Return the denoiser called `name`. Raises `PluginError` with the nearest name.

    >>> load("digits-dit").protocol.steps > 0
    True
    """
    kind = (plugins or Plugins()).denoisers.load(name)
    return kind(checkpoint, dtype=dtype, device=device)


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
