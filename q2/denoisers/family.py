"""A family of denoisers: a published diffusers model that is loaded, or built from its config without weights."""

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from q2.denoisers.base import Denoiser
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.checkpoints.open import checkpoint_at
from q2.denoisers.checkpoints.single import KnownConfig
from q2.denoisers.pipelines.signature import Signature
from q2.denoisers.prompts import Ask
from q2.denoisers.silence_libraries import quiet
from q2.errors import ConfigError

__all__ = ["Family", "Inputs", "Shape", "built", "known"]

Inputs = Mapping[str, object]


class Shape:
    """Makes example tensors: of one dtype, on one device, the same at every call."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.dtype, self.device = denoiser.dtype, denoiser.device

    def noise(self, *shape: int) -> Tensor:
        """Return standard normal numbers of `shape`."""
        if self.device.type == "meta":
            return torch.empty(shape, dtype=self.dtype, device=self.device)
        generator = torch.Generator().manual_seed(sum(shape))
        return torch.randn(shape, generator=generator).to(self.device, self.dtype)

    def full(self, value: float, *shape: int, dtype: torch.dtype = torch.long) -> Tensor:
        """Return a tensor of `shape` with `value` everywhere."""
        return torch.full(shape, value, dtype=dtype, device=self.device)

    def count(self, batch: int) -> Tensor:
        """Return 0 to `batch` - 1, of shape (batch,)."""
        return torch.arange(batch, device=self.device)

    def mask(self, batch: int, length: int, dtype: torch.dtype) -> Tensor:
        """Return a mask (batch, length) of ones for the first half of the tokens, and zeros."""
        ones = torch.arange(length, device=self.device) * 2 < length
        return ones.to(dtype).expand(batch, -1).contiguous()


class Family(Denoiser):
    """A diffusers model with its published config. A subclass is one small file.

    It gives the classes' names in diffusers, `config` (the published constructor arguments), `small` (what a tiny one
    has instead), the Hub id, the side of the latents and the number of text tokens in the example inputs, and the
    `optional` parts that a pipeline can do without: its text encoders and filters.
    """

    model_class: ClassVar[str]
    pipeline_class: ClassVar[str]
    hub: ClassVar[str]
    config: ClassVar[Mapping[str, Any]]
    small: ClassVar[Mapping[str, Any]]
    latent: ClassVar[int]
    tokens: ClassVar[int] = 0
    optional: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def default_checkpoint(cls) -> str:
        """Return the Hub id of the published weights."""
        return cls.hub

    def load_model(self) -> nn.Module:
        """Load the weights with `from_pretrained`, or build the model from its config. Raises `CheckpointError`."""
        import diffusers

        kind = getattr(diffusers, self.model_class)
        if self.checkpoint is not None:
            return self.checkpoint.load_component(kind, self.component, self.dtype).to(self.device)
        config = {**self.config, **self.small} if self.tiny else known(kind, self.arguments())
        return built(kind, config, self)

    def arguments(self) -> Mapping[str, Any]:
        """Return the constructor arguments: a local checkpoint's own, else the published. Raises `CheckpointError`."""
        where = self.given or self.default_checkpoint()
        if not where or not Path(where).exists():
            return self.config
        checkpoint = self.checkpoint_at(where)
        checkpoint.check_class(self.component, self.model_class)
        return checkpoint.config(self.component)

    def load_pipeline(self, model: nn.Module) -> Any:
        """Load the pipeline around `model`; without a checkpoint, one that takes embeddings instead of prompts."""
        import diffusers

        with quiet():
            kind = getattr(diffusers, self.pipeline_class)
            if self.checkpoint is None:
                return kind(**dict.fromkeys(self.optional), **{self.component: model, **self.parts()}).to(self.device)
        self.checkpoint.check_pipeline()
        self.checkpoint.check("vae", "AutoencoderKL")
        parts = {**self.checkpoint.absent(self.optional), self.component: model}
        return self.checkpoint.load_pipeline(kind, self.dtype, parts).to(self.device)

    def checkpoint_at(self, where: str) -> Checkpoint:
        """Return the checkpoint at `where`; the published one has the configs of a single file."""
        selection = replace(self.selection, config=self.selection.config or self.default_checkpoint())
        return checkpoint_at(where, selection, KnownConfig(self.model_class, self.config))

    @abstractmethod
    def parts(self) -> Mapping[str, Any]:
        """Return the pipeline's other parts where there is no checkpoint: a random autoencoder, no text encoders."""

    def autoencoder(self) -> Any:
        """Return a small random autoencoder, three colours and an eighth of the side."""
        from diffusers import AutoencoderKL

        return built(
            AutoencoderKL,
            {
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "up_block_types": ("UpDecoderBlock2D",) * 4,
                "block_out_channels": (8,) * 4,
                "norm_num_groups": 4,
                "latent_channels": 4,
                "sample_size": 64,
            },
            self,
        )

    @property
    def side(self) -> int:
        """The side of the latents: the protocol's, or the model's own where that is smaller."""
        config: Any = self.model.config
        return min(self.latent, int(config.sample_size))

    def example_inputs(
        self, batch: int = 1, *, size: int | None = None, timestep: int = 500, tokens: int | None = None
    ) -> Inputs:
        """Return keyword arguments of the forward for `batch` latents of side `size`, and that many text tokens."""
        count = tokens or (9 if self.tiny else self.tokens)
        return self.inputs(Shape(self), batch, size or self.side, timestep, count)

    @abstractmethod
    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return the example inputs; `self.model.config` is the model's own."""

    def check(self, ask: Ask) -> None:
        """Raise `ConfigError` for a class that is not there, and for a size that is no multiple of a latent's."""
        self.check_classes(ask)
        if ask.size is not None and (ask.size < self.scale or ask.size % self.scale):
            raise ConfigError(f"size {ask.size} is no multiple of {self.scale}, which a latent stands for")

    def check_classes(self, ask: Ask) -> None:
        """Raise `ConfigError` for a class that is not there, and for arguments that the pipeline does not take."""
        if self.pipeline_arguments:
            import diffusers

            Signature.of(getattr(diffusers, self.pipeline_class)).check(self.pipeline_arguments)
        for each in ask.classes:
            if not 0 <= each < self.classes():
                raise ConfigError(f"class {each} is outside 0 to {self.classes() - 1}")

    @property
    def scale(self) -> int:
        """How many pixels a side a latent stands for."""
        return int(2 ** (len(self.pipeline().vae.config.block_out_channels) - 1))

    def labels(self, images: range, ask: Ask) -> list[int]:
        """Return the class, or the number of the prompt, of every image."""
        things = ask.classes or tuple(range(len(ask.prompts) or self.classes()))
        return ask.turn(things, images)

    def classes(self) -> int:
        """Return after how many images classes or prompts start again."""
        return 10


def known(kind: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a diffusers model's constructor takes of a saved config, which another version may have written."""
    taken = inspect.signature(kind.__init__).parameters.values()
    if any(entry.kind is entry.VAR_KEYWORD for entry in taken):
        return dict(config)
    names = {entry.name for entry in taken}
    return {name: value for name, value in config.items() if name in names}


def built(kind: Any, config: Mapping[str, Any], denoiser: Denoiser) -> nn.Module:
    """Build a diffusers model from a config: without storage on meta, else with weights drawn from seed 0.

    They are drawn on the CPU, as other devices draw other numbers, and the seed would be that device's from then on.
    """
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(denoiser.dtype)
        place = torch.device("meta" if denoiser.device.type == "meta" else "cpu")
        with torch.random.fork_rng(devices=[]), place:
            torch.default_generator.manual_seed(0)
            model: nn.Module = kind(**config)
    finally:
        torch.set_default_dtype(before)
    return model.to(denoiser.device).eval().requires_grad_(False)
