"""What a pipeline's `__call__` takes, read from its signature; nothing is loaded."""

import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from q2.denoisers.prompts import Ask
from q2.errors import ConfigError, did_you_mean

__all__ = ["GIVEN", "MASKS", "PICTURES", "VIDEOS", "Signature"]

GIVEN = ("prompt", "class_labels", "batch_size", "generator", "output_type", "return_dict", "latents")
"""What q2 gives by itself, which no setting may."""
PICTURES = ("image", "control_image", "original_image", "example_image")
MASKS = ("mask_image", "control_mask", "mask")
VIDEOS = ("video", "control_video")

_GUIDANCE = ("guidance_scale", "true_cfg_scale", "distilled_guidance_scale", "prior_guidance_scale")
_STEPS = ("num_inference_steps", "prior_num_inference_steps")
_FRAMES = ("num_frames", "video_length")
_UNASKED = (  # None is meant, whatever the annotation says
    "callback",
    "clip_skip",
    "crops_coords_top_left",
    "images",
    "input_images",
    "masked_image_latents",
    "negative_prompt_2",
    "original_inference_steps",
    "original_size",
    "prompt_2",
    "sigmas",
    "skip_guidance_layers",
    "target_size",
    "timesteps",
    "transcription",
)
_FROM_IMAGES = re.compile(r"Edit|Fill|Inpaint|Img2Img|ImageToVideo|Refiner|Variation|Layered")
_ALONE = frozenset(
    {
        "CogView4Pipeline",  # pads all prompts of a batch to the longest, without a mask
        "Kandinsky3Pipeline",  # cuts all prompts of a batch at the end of the longest
        "LattePipeline",  # cuts a prompt at its end where it is the only one, and masks it in a batch
    }
)


@dataclass(frozen=True)
class Signature:
    """The parameters of a pipeline's `__call__`, by what they are for.

    >>> from diffusers import DiTPipeline
    >>> taken = Signature.of(DiTPipeline)
    >>> taken.condition, taken.guidance, taken.default("num_inference_steps")
    ('class_labels', 'guidance_scale', 50)
    """

    name: str
    parameters: Mapping[str, inspect.Parameter]

    @classmethod
    def of(cls, pipeline: type) -> "Signature":
        """Read the signature of a pipeline's class."""
        call: Any = pipeline.__call__
        entries = inspect.signature(call).parameters
        plain = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        kept = {name: each for name, each in entries.items() if name != "self" and each.kind not in plain}
        return cls(pipeline.__name__, kept)

    def __contains__(self, name: str) -> bool:
        return name in self.parameters

    def default(self, name: str) -> Any:
        """Return the default of a parameter; None where it has none or is not there."""
        found = self.parameters.get(name)
        return None if found is None or found.default is found.empty else found.default

    def takes_list(self, name: str) -> bool:
        """Return whether a parameter may be a list, one thing for every image."""
        found = self.parameters.get(name)
        return found is not None and (found.annotation is found.empty or "list" in _text(found.annotation).lower())

    @cached_property
    def condition(self) -> str:
        """What is drawn is said by a ``prompt``, by ``class_labels``, or by nothing (empty)."""
        return next((name for name in ("prompt", "class_labels") if name in self), "")

    @cached_property
    def guidance(self) -> str:
        """The name of the guidance scale: the first that has a number by default; empty where there is none."""
        return next((name for name in _GUIDANCE if isinstance(self.default(name), int | float)), "")

    @cached_property
    def steps(self) -> tuple[str, ...]:
        """The names of the numbers of denoising steps: a cascade has one a part."""
        return tuple(name for name in _STEPS if name in self)

    @cached_property
    def frames(self) -> str:
        """The name of the number of frames; empty for a pipeline that makes images."""
        return next((name for name in _FRAMES if name in self), "")

    @cached_property
    def is_alone(self) -> bool:
        """Whether it is asked for one image a call: one generator is all it takes, or its batch is mixed."""
        lists = self.takes_list("generator") and (not self.condition or self.takes_list(self.condition))
        of_images = bool(self.frames and {*self.needed} & {*PICTURES, *MASKS}) or bool({*self.needed} & {*VIDEOS})
        return not lists or of_images or self.name in _ALONE

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The parameters that must be given beside prompt or classes, sizes and numbers.

        These have no default, or one of None that their type denies. A pipeline that is named for editing needs its
        image, and an inpainting one its mask.
        """
        found = [name for name in self.parameters if name not in GIVEN and self._needs(name)]
        if _FROM_IMAGES.search(self.name):
            found += [name for name in ("image", "mask_image") if name in self and name not in found]
        return tuple(name for name in found if name != "video" or "image" not in found)

    def odd(self, given: Collection[str]) -> list[str]:
        """Return what is needed and neither among `given` nor an image that q2 can make."""
        known = {*PICTURES, *MASKS, *VIDEOS, *given}
        return [name for name in self.needed if name not in known]

    def check(self, arguments: Mapping[str, object]) -> None:
        """Raise `ConfigError` for a setting ``denoiser.arguments`` that the call does not take, or q2 gives."""
        for name in arguments:
            if name in GIVEN:
                raise ConfigError(f"arguments.{name}: q2 gives {name} for every image; leave it out")
            if name not in self:
                raise ConfigError(f"arguments.{name}: {self.name} takes no {name}{did_you_mean(name, self.parameters)}")

    def check_ask(self, ask: Ask, classes: int) -> None:
        """Raise `ConfigError` for what the call cannot be asked for; there are so many `classes`, 0 where none."""
        if ask.prompts and self.condition != "prompt":
            what = f"draws classes, 0 to {classes - 1}, and takes no prompt" if classes else "takes no prompt"
            raise ConfigError(f"{self.name} {what}")
        if ask.classes and not classes:
            what = "draws what a prompt says, and has no classes" if self.condition == "prompt" else "has no classes"
            raise ConfigError(f"{self.name} {what}")
        for each in ask.classes:
            if not 0 <= each < classes:
                raise ConfigError(f"class {each} is outside 0 to {classes - 1}")
        if ask.guidance is not None and not self.guidance:
            raise ConfigError(f"{self.name} takes no guidance scale")
        if ask.size is not None and self.frames:
            raise ConfigError(
                f"{self.name} makes videos, and {ask.size} is the side of an image; "
                f"set denoiser.arguments: height, width and {self.frames}"
            )
        if ask.size is not None and not {"height", "width"} <= {*self.parameters}:
            raise ConfigError(f"{self.name} draws images of its own size, not of {ask.size} pixels a side")

    def _needs(self, name: str) -> bool:
        entry = self.parameters[name]
        if entry.default is entry.empty:
            return True
        if entry.default is not None or name in _UNASKED or entry.annotation is entry.empty:
            return False
        text = _text(entry.annotation)
        optional = "None" in text or "Optional" in text
        plain = name in ("height", "width", *_FRAMES) or name.startswith(("negative_", "callback_", "num_"))
        return not optional and not plain and "prompt_embeds" not in name


def _text(annotation: object) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
