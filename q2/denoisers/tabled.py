"""Denoisers of diffusers that are given by a table of class, config, protocol and sizes; `Other` does the rest."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from q2.denoisers.base import Weights
from q2.denoisers.checkpoints.checkpoint import Checkpoint
from q2.denoisers.checkpoints.open import checkpoint_at
from q2.denoisers.checkpoints.selection import Selection
from q2.denoisers.checkpoints.single import KnownConfig
from q2.denoisers.family import Shape
from q2.denoisers.inputs.derive import example_inputs
from q2.denoisers.other import Other
from q2.errors import ConfigError

__all__ = ["Published"]


class Published(Other):
    """A denoiser of diffusers with its published config. A subclass is a table.

    `small` is what a tiny one has instead. `latent` is the side of the example latents, in tokens where these are
    packed, and `tokens` the number of text tokens: those of the protocol's `size` in pixels.
    """

    component: ClassVar[str] = "transformer"
    model_class: ClassVar[str]
    hub: ClassVar[str]
    config: ClassVar[Mapping[str, Any]]
    small: ClassVar[Mapping[str, Any]]
    size: ClassVar[int]
    latent: ClassVar[int]
    tokens: ClassVar[int]

    def __init__(
        self,
        checkpoint: str = "",
        *,
        weights: Weights = "pretrained",
        tiny: bool = False,
        dtype: str = "float32",
        device: str = "auto",
        selection: Selection | None = None,
    ) -> None:
        """Choose the weights; see `Denoiser`. Raises `ConfigError`, `CheckpointError`."""
        if tiny and checkpoint not in ("", self.hub):
            raise ConfigError(f"tiny has no pretrained weights; leave out tiny, or checkpoint {checkpoint!r}")
        where = "" if tiny else checkpoint or self.hub
        by_class = tiny or (weights != "pretrained" and not Path(where).exists())
        super().__init__(
            "" if by_class else where,
            model=f"diffusers:{self.model_class}" if by_class else "",
            config={**self.config, **self.small} if tiny else self.config if by_class else "",
            weights=weights,
            dtype=dtype,
            device=device,
            selection=selection,
        )
        self.tiny = tiny

    @classmethod
    def default_checkpoint(cls) -> str:
        """Return the Hub id of the published weights."""
        return cls.hub

    @property
    def label(self) -> str:
        """What recipes and reports call it."""
        return self.name

    def checkpoint_at(self, where: str) -> Checkpoint:
        """Return the checkpoint at `where`; the published one has the configs of a single file."""
        selection = replace(self.selection, config=self.selection.config or self.hub)
        return checkpoint_at(where, selection, KnownConfig(self.model_class, self.config))

    def load_model(self) -> nn.Module:
        """Load the weights, or build the model from its config. Raises `CheckpointError` for one of another class."""
        if self._index is not None:
            self._index.check_class(self._found[0], self.model_class)
        return super().load_model()

    def example_inputs(
        self, batch: int = 1, *, size: int | None = None, tokens: int | None = None
    ) -> Mapping[str, object]:
        """Return keyword arguments of the forward for `batch` latents of side `size`, and that many text tokens."""
        side, count = size or (8 if self.tiny else self.latent), tokens or (9 if self.tiny else self.tokens)
        return self.inputs(Shape(self), batch, side, count)

    def inputs(self, make: Shape, batch: int, side: int, tokens: int) -> Mapping[str, object]:
        """Return the example inputs, derived from signature and config."""
        return example_inputs(self.model, batch, size=side, tokens=tokens)
