"""DiT-XL/2: a class-conditional transformer (Peebles and Xie, ICCV'23)."""

from collections.abc import Mapping
from typing import Any, ClassVar

from q2.denoisers.base import Protocol
from q2.denoisers.family import Family, Inputs, Shape
from q2.denoisers.prompts import Ask
from q2.errors import ConfigError

__all__ = ["DiT"]


class DiT(Family):
    """DiT-XL/2 at 512², one image per ImageNet class.

    >>> tuple(DiT(tiny=True).example_inputs(batch=2)["hidden_states"].shape)
    (2, 4, 8, 8)
    """

    name: ClassVar[str] = "dit"
    component: ClassVar[str] = "transformer"
    model_class: ClassVar[str] = "DiTTransformer2DModel"
    pipeline_class: ClassVar[str] = "DiTPipeline"
    hub: ClassVar[str] = "facebook/DiT-XL-2-512"
    protocol: ClassVar[Protocol] = Protocol(steps=250, guidance=4.0)
    latent: ClassVar[int] = 32
    config: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "in_channels": 4,
        "out_channels": 8,
        "num_layers": 28,
        "attention_bias": True,
        "sample_size": 32,
        "patch_size": 2,
        "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000,
        "norm_type": "ada_norm_zero",
        "norm_elementwise_affine": False,
    }
    small: ClassVar[Mapping[str, Any]] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "sample_size": 8,
    }

    def inputs(self, make: Shape, batch: int, size: int, timestep: int, tokens: int) -> Inputs:
        """Return latents (batch, C, size, size), timesteps and class labels (batch,)."""
        config: Any = self.model.config
        return {
            "hidden_states": make.noise(batch, config.in_channels, size, size),
            "timestep": make.full(timestep, batch),
            "class_labels": make.count(batch) % self.classes(),
        }

    def classes(self) -> int:
        """Return the number of ImageNet's classes."""
        return int(self.model.config.num_embeds_ada_norm)  # type: ignore[union-attr, arg-type]

    def parts(self) -> Mapping[str, Any]:
        """Return an autoencoder and the scheduler."""
        from diffusers import DPMSolverMultistepScheduler

        return {"vae": self.autoencoder(), "scheduler": DPMSolverMultistepScheduler()}

    def check_classes(self, ask: Ask) -> None:
        """Raise `ConfigError` for prompts, and for a class that is not there."""
        if ask.prompts:
            raise ConfigError(f"{self.name} draws classes, 0 to {self.classes() - 1}, and takes no prompt")
        super().check_classes(ask)

    def check(self, ask: Ask) -> None:
        """Raise `ConfigError` for prompts, and for a size: a DiT draws classes, at the size that it was made for."""
        super().check(ask)
        side = self.side * self.scale
        if ask.size not in (None, side):
            raise ConfigError(f"{self.name} draws images of {side} pixels a side, not {ask.size}")

    def conditions(self, images: range, ask: Ask) -> Mapping[str, Any]:
        """Return the class of every image."""
        return {"class_labels": self.labels(images, ask)}
