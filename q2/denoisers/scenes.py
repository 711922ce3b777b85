"""The embedded denoiser that draws coloured shapes from a caption; it was trained in `examples/train_scenes`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from q2.denoisers.base import Protocol
from q2.denoisers.judge import ScenesJudge
from q2.denoisers.packaged import packaged
from q2.denoisers.prompts import Ask
from q2.denoisers.published import SD35Large
from q2.denoisers.shapes import SCENES

__all__ = ["ScenesSD3"]


class ScenesSD3(SD35Large):
    """A complete `StableDiffusion3Pipeline` inside the package: flow matching, 64×64 colour images from 8×8 latents.

    >>> denoiser = ScenesSD3()
    >>> denoiser.prompts[0], denoiser.classes
    ('a green triangle above a blue square', 1230)
    """

    name: ClassVar[str] = "scenes-sd3"
    hub: ClassVar[str] = str(packaged("scenes-sd3"))
    protocol = Protocol(steps=12, guidance=3.5)
    size: ClassVar[int] = 64
    latent: ClassVar[int] = 8
    tokens: ClassVar[int] = 12  # ten of the CLIPs, two zeros of the silent T5
    prompts = tuple(map(str, SCENES))

    @property
    def classes(self) -> int:
        """The number of scenes, the classes of the judge."""
        return len(SCENES)

    def judge(self) -> ScenesJudge:
        """Return the shipped classifier of drawn scenes."""
        return ScenesJudge.load(packaged("scenes-judge"))

    def conditions(self, images: range, ask: Ask) -> Mapping[str, Any]:
        """Return the caption of every image; T5 puts out zeros, so two of its 256 tokens, start and end, are enough."""
        prompts = ask.prompts or [self.prompts[each] for each in ask.classes] or self.prompts
        made = self._request(ask).conditions(images, ask.turn(tuple(prompts), images))
        return {"max_sequence_length": 2, **made}
