"""What a pipeline takes is read from its signature, and what it cannot be asked for is one line."""

import diffusers
import pytest

from q2.denoisers import Ask
from q2.denoisers.pipelines.arguments import Request
from q2.denoisers.pipelines.signature import Signature
from q2.errors import ConfigError


def of(name: str) -> Signature:
    return Signature.of(getattr(diffusers, name))


@pytest.mark.parametrize(
    ("name", "condition", "guidance", "frames", "needed"),
    [
        ("StableDiffusionPipeline", "prompt", "guidance_scale", "", ()),
        ("StableDiffusionImg2ImgPipeline", "prompt", "guidance_scale", "", ("image",)),
        ("StableDiffusionXLInpaintPipeline", "prompt", "guidance_scale", "", ("image", "mask_image")),
        ("FluxFillPipeline", "prompt", "guidance_scale", "", ("image", "mask_image")),
        ("QwenImagePipeline", "prompt", "true_cfg_scale", "", ()),
        ("HunyuanImagePipeline", "prompt", "distilled_guidance_scale", "", ()),
        ("WanPipeline", "prompt", "guidance_scale", "num_frames", ()),
        ("LattePipeline", "prompt", "guidance_scale", "video_length", ()),
        ("StableVideoDiffusionPipeline", "", "", "num_frames", ("image",)),
        ("DiTPipeline", "class_labels", "guidance_scale", "", ()),
        ("DDPMPipeline", "", "", "", ()),
        ("StableCascadeCombinedPipeline", "prompt", "prior_guidance_scale", "", ()),
        ("KandinskyV22Pipeline", "", "guidance_scale", "", ("image_embeds", "negative_image_embeds")),
        ("Flux2KleinPipeline", "prompt", "guidance_scale", "", ()),
    ],
)
def test_what_a_pipeline_takes(name: str, condition: str, guidance: str, frames: str, needed: tuple[str, ...]) -> None:
    taken = of(name)
    assert (taken.condition, taken.guidance, taken.frames, taken.needed) == (condition, guidance, frames, needed)


def test_pipelines_that_mix_a_batch_or_take_one_generator_are_asked_for_one_image_a_call() -> None:
    alone = {
        "CogView4Pipeline",
        "LattePipeline",
        "Kandinsky3Pipeline",
        "LTXImageToVideoPipeline",
        "StableUnCLIPPipeline",
    }
    together = {"StableDiffusion3Pipeline", "FluxPipeline", "WanPipeline", "DDPMPipeline", "FluxImg2ImgPipeline"}
    assert {name for name in alone | together if of(name).is_alone} == alone


def test_a_request_has_one_thing_for_every_image() -> None:
    request = Request(of("StableDiffusionInpaintPipeline"), Ask(size=32), {"negative_prompt": "dull"}, (32, 32))
    made = request.conditions(range(4, 6), ["a fox", "a hen"])
    assert made["prompt"] == ["a fox", "a hen"]
    assert made["negative_prompt"] == ["dull", "dull"]
    assert [image.size for image in made["image"]] == [(32, 32), (32, 32)]
    assert made["image"][0].tobytes() != made["image"][1].tobytes()
    assert made["image"][1].tobytes() == request.conditions(range(5, 6), ["a hen"])["image"].tobytes()
    assert (made["height"], made["width"]) == (32, 32)
    assert request.numbers(3, 2.0) == {"num_inference_steps": 3, "guidance_scale": 2.0}


def test_every_part_of_a_cascade_gets_the_steps() -> None:
    request = Request(of("KandinskyV22CombinedPipeline"), Ask(), {})
    assert request.numbers(3, 2.0) == {
        "num_inference_steps": 3,
        "prior_num_inference_steps": 3,
        "guidance_scale": 2.0,
    }


def test_a_guidance_scale_that_needs_a_negative_prompt_gets_one() -> None:
    made = Request(of("QwenImagePipeline"), Ask(), {}).conditions(range(2), ["a", "b"])
    assert made["negative_prompt"] == [" ", " "]
    assert "negative_prompt" not in Request(of("FluxPipeline"), Ask(), {}).conditions(range(2), ["a", "b"])


@pytest.mark.parametrize(
    ("name", "ask", "message"),
    [
        ("DiTPipeline", Ask(("a fox",)), "DiTPipeline draws classes, 0 to 9, and takes no prompt"),
        ("DiTPipeline", Ask(classes=(10,)), "class 10 is outside 0 to 9"),
        ("DDPMPipeline", Ask(("a fox",)), "DDPMPipeline takes no prompt"),
        ("DDPMPipeline", Ask(classes=(1,)), "DDPMPipeline has no classes"),
        ("DDPMPipeline", Ask(size=64), "DDPMPipeline draws images of its own size, not of 64 pixels a side"),
        ("DDPMPipeline", Ask(guidance=2.0), "DDPMPipeline takes no guidance scale"),
        ("FluxPipeline", Ask(classes=(1,)), "FluxPipeline draws what a prompt says, and has no classes"),
        (
            "WanPipeline",
            Ask(size=64),
            "WanPipeline makes videos, and 64 is the side of an image; "
            "set denoiser.arguments: height, width and num_frames",
        ),
    ],
)
def test_what_cannot_be_asked_for_is_one_line(name: str, ask: Ask, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of(name).check_ask(ask, 10 if name == "DiTPipeline" else 0)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heigth": 64}, "arguments.heigth: FluxPipeline takes no heigth; did you mean 'height'?"),
        ({"generator": 1}, "arguments.generator: q2 gives generator for every image; leave it out"),
        ({"prompt": "a fox"}, "arguments.prompt: q2 gives prompt for every image; leave it out"),
    ],
)
def test_arguments_are_those_of_the_call(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of("FluxPipeline").check(arguments)
    assert str(caught.value) == message


def test_an_image_of_the_users_own_is_read_or_refused() -> None:
    request = Request(of("FluxImg2ImgPipeline"), Ask(), {"image": "nowhere.png"})
    with pytest.raises(ConfigError, match=r"arguments.image: nowhere.png: cannot be read as an image: No such file"):
        request.conditions(range(1), ["a fox"])
