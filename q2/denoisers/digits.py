"""The embedded denoisers that draw handwritten digits; they were trained in `examples/train_digits`."""

from typing import ClassVar

from q2.denoisers.base import Protocol
from q2.denoisers.dit import DiT
from q2.denoisers.family import Family
from q2.denoisers.judge import DigitsJudge
from q2.denoisers.packaged import packaged
from q2.denoisers.sdxl import SDXL

__all__ = ["DigitsDiT", "DigitsSDXL"]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class _Digits(Family):
    """What both have: a packaged pipeline folder, ten classes, a judge."""

    protocol: ClassVar[Protocol] = Protocol(steps=12, guidance=1.0)

    @classmethod
    def default_checkpoint(cls) -> str:
        """Return the packaged pipeline folder."""
        return str(packaged(cls.name))

    def classes(self) -> int:
        """Return the number of digits."""
        return len(WORDS)

    def judge(self) -> DigitsJudge:
        """Return the shipped classifier of real digits."""
        return DigitsJudge.load(packaged("digits-judge"))


class DigitsDiT(_Digits, DiT):
    """A complete `DiTPipeline` inside the package: 32×32 grey digits from 8×8 latents.

    >>> DigitsDiT().example_inputs(batch=2)["hidden_states"].shape
    torch.Size([2, 4, 8, 8])
    """

    name: ClassVar[str] = "digits-dit"


class DigitsSDXL(_Digits, SDXL):
    """A complete `StableDiffusionXLPipeline` inside the package: 32×32 grey digits from "a photo of the digit seven".

    >>> DigitsSDXL().prompts[7]
    'a photo of the digit seven'
    """

    name: ClassVar[str] = "digits-sdxl"
    tokens: ClassVar[int] = 12
    prompts = tuple(f"a photo of the digit {word}" for word in WORDS)
