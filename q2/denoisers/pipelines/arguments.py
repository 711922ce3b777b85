"""The arguments of one call of a pipeline: prompts or classes, images to start from, sizes, steps and guidance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from q2.denoisers.pipelines import examples
from q2.denoisers.pipelines.signature import MASKS, PICTURES, VIDEOS, Signature
from q2.denoisers.prompts import Ask

__all__ = ["Request"]

_SIDE = 512
_FRAMES = 9


@dataclass(frozen=True)
class Request:
    """What is asked of a pipeline with this signature: `ask`, and the settings in ``denoiser.arguments``.

    `size` is (height, width) of what it draws if nobody says another.
    """

    signature: Signature
    ask: Ask
    settings: Mapping[str, Any]
    size: tuple[int, int] = (_SIDE, _SIDE)

    def conditions(self, images: range, things: Sequence[object]) -> dict[str, Any]:
        """Return all that says what is drawn; `things` are the prompt or class of every image."""
        taken = self.signature
        made: dict[str, Any] = {}
        if taken.condition:
            made[taken.condition] = list(things) if taken.takes_list(taken.condition) else things[0]
        elif "class_labels" in taken and things:
            made["class_labels"] = list(things)
        if "batch_size" in taken:
            made["batch_size"] = len(images)
        if self.ask.size is not None:
            made |= {"height": self.ask.size, "width": self.ask.size}
        if taken.guidance == "true_cfg_scale" and "negative_prompt" in taken:
            made["negative_prompt"] = [" "] * len(images)  # without one the scale does nothing
        for name in taken.needed:
            if name not in self.settings:
                made |= self._starting(name, images)
        return made | {name: self._setting(name, value, images) for name, value in self.settings.items()}

    def numbers(self, steps: int | None, guidance: float | None) -> dict[str, Any]:
        """Return the steps and the guidance scale, where they are asked for."""
        made: dict[str, Any] = {}
        if steps is not None:
            made |= dict.fromkeys(self.signature.steps, steps)
        if guidance is not None and self.signature.guidance:
            made[self.signature.guidance] = guidance
        return made

    def _starting(self, name: str, images: range) -> dict[str, Any]:
        height, width = self.size
        if name in PICTURES:
            return {name: self._each([examples.picture(i, height, width) for i in images])}
        if name in MASKS:
            return {name: self._each([examples.mask(height, width) for _ in images])}
        if name in VIDEOS:
            frames = int(self.settings.get(self.signature.frames) or self.signature.default(self.signature.frames) or 0)
            return {name: examples.video(images.start, height, width, frames or _FRAMES)}
        return {}

    def _setting(self, name: str, value: object, images: range) -> object:
        """Return a setting as the call takes it: files as images, a negative prompt once for every image."""
        if isinstance(value, str) and name in (*PICTURES, *MASKS):
            return self._each([examples.opened(name, value)] * len(images))
        if isinstance(value, str) and name.startswith("negative_prompt") and self.signature.condition == "prompt":
            return [value] * len(images)
        return value

    def _each(self, made: list[Any]) -> Any:
        """Return the images of a batch, or the one of a call for one."""
        return made[0] if len(made) == 1 else made
