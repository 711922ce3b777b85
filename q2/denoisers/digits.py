"""The embedded denoiser: a class-conditional DiT that draws handwritten digits, trained in `examples/train_digits`."""

from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from typing import Any, ClassVar

import torch
from torch import nn

from q2.denoisers.base import Denoiser, Protocol, Samples
from q2.denoisers.judge import DigitsJudge
from q2.progress import Progress, silent

__all__ = ["DigitsDiT"]

CLASSES = 10


class DigitsDiT(Denoiser):
    """A complete `DiTPipeline` inside the package: 32×32 grey digits from 8×8 latents.

    >>> DigitsDiT().example_inputs(batch=2)["hidden_states"].shape
    torch.Size([2, 4, 8, 8])
    """

    name: ClassVar[str] = "digits-dit"
    component: ClassVar[str] = "transformer"
    protocol: ClassVar[Protocol] = Protocol(steps=12, guidance=1.0)

    @classmethod
    def default_checkpoint(cls) -> str:
        """Return the packaged pipeline folder."""
        return _asset("digits-dit")

    def load_model(self) -> nn.Module:
        """Load the `DiTTransformer2DModel`. Raises `CheckpointError`."""
        from diffusers import DiTTransformer2DModel

        self.checkpoint.check(self.component, "DiTTransformer2DModel")
        with self.checkpoint.reading() as where:
            model = DiTTransformer2DModel.from_pretrained(where, subfolder=self.component, dtype=self.dtype)
        moved: nn.Module = model.to(self.device)
        return moved

    def load_pipeline(self, model: nn.Module) -> Any:
        """Load the `DiTPipeline` around `model`."""
        from diffusers import DiTPipeline

        self.checkpoint.check("vae", "AutoencoderKL")
        with self.checkpoint.reading() as where:
            pipeline = DiTPipeline.from_pretrained(where, transformer=model, dtype=self.dtype)
        return pipeline.to(self.device)

    def example_inputs(self, batch: int = 1) -> Mapping[str, object]:
        """Return latents (batch, 4, 8, 8), timesteps and class labels (batch,)."""
        config: Any = self.model.config
        shape = (batch, config.in_channels, config.sample_size, config.sample_size)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return {
            "hidden_states": latents.to(self.device, self.dtype),
            "timestep": torch.full((batch,), 500, device=self.device),
            "class_labels": torch.arange(batch, device=self.device) % CLASSES,
        }

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        steps: int | None = None,
        batch: int = 100,
        progress: Progress = silent,
    ) -> Samples:
        """Make `count` digits, image i of class i modulo 10."""
        pipeline, labels, images = self.pipeline(), torch.arange(count) % CLASSES, []
        for start in progress(range(0, count, batch), "generate", -(-count // batch)):
            chosen = range(start, min(start + batch, count))
            made = pipeline(
                class_labels=[int(labels[i]) for i in chosen],
                generator=[image_generator(seed, i) for i in chosen],
                num_inference_steps=steps or self.protocol.steps,
                guidance_scale=self.protocol.guidance,
                output_type="pt",
            )
            images.append(made.images.float().cpu())
        return Samples(torch.cat(images) if images else torch.empty(0, 1, 32, 32), labels)

    def judge(self) -> DigitsJudge:
        """Return the shipped classifier of real digits."""
        return DigitsJudge.load(_asset("digits-judge"))


def image_generator(seed: int, index: int) -> torch.Generator:
    """Return the CPU generator of image `index`: the same noise on every device and in every batch."""
    digest = sha256(f"{seed} {index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _asset(name: str) -> str:
    return str(resources.files("q2") / "denoisers" / "assets" / name)
