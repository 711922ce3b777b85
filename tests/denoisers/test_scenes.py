"""The embedded denoiser of today's kind: flow matching and joint attention, in colour, with a judge of its own."""

import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline

import q2
from q2.denoisers import Ask, Denoiser, Samples
from q2.denoisers.comparison import compare, read
from q2.denoisers.judge import ScenesJudge
from q2.denoisers.packaged import packaged
from q2.denoisers.shapes import COLOURS, LAYOUTS, SCENES, SHAPES, Scene, Thing
from q2.errors import ConfigError
from q2.passes.transform.quantize import Quantize, Rule, RuleConfig

EXAMPLES = Path(__file__).parents[2] / "examples" / "train_scenes"


@pytest.fixture(scope="module")
def scenes() -> Denoiser:
    return q2.denoiser("scenes-sd3", device="cpu")


def test_every_scene_is_there_once_and_the_first_hundred_show_every_colour_shape_and_layout() -> None:
    assert len(set(SCENES)) == len(SCENES) == 30 + 2 * 30 * 20
    first = SCENES[:100]
    things = [thing for scene in first for thing in scene.things]
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {scene.layout for scene in first} == set(LAYOUTS)
    scene = Scene("left of", (Thing("orange", "star"), Thing("blue", "heart")))
    assert str(scene) == "an orange star left of a blue heart"
    assert scene in SCENES


def test_the_packaged_folders_are_small_and_plain() -> None:
    files = [file for name in ("scenes-sd3", "scenes-judge") for file in packaged(name).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 20_000_000
    assert {file.suffix for file in files} == {".json", ".safetensors"}


def test_plain_diffusers_loads_the_folder_and_reads_its_prompt() -> None:
    pipeline = StableDiffusion3Pipeline.from_pretrained(packaged("scenes-sd3"))
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, FlowMatchEulerDiscreteScheduler)
    prompts = ["a red circle", "a blue circle"]
    generators = [torch.Generator().manual_seed(1) for _ in prompts]
    red, blue = pipeline(
        prompts, num_inference_steps=6, guidance_scale=1, generator=generators, output_type="np"
    ).images  # with all 256 zeros in the place of T5's tokens
    assert red.shape == (64, 64, 3)
    middle = slice(28, 36)
    for image, strong, weak in ((red, 0, 2), (blue, 2, 0)):
        colour = image[middle, middle].mean((0, 1))
        assert colour[strong] > colour[weak] + 0.4
    for scene in SCENES:  # a word cut into pieces would push the last words out
        words = str(scene).split()
        assert pipeline.tokenizer.tokenize(str(scene)) == [f"{word}</w>" for word in words]


def test_the_judge_reads_every_part_of_new_drawings(monkeypatch: pytest.MonkeyPatch, scenes: Denoiser) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from draw import draw_scenes

    pictures, labels = draw_scenes(200, seed=99, alone=1 / 3)
    sys.modules.pop("draw")
    judge = scenes.judge()
    assert judge is not None
    seen = read(judge, Samples(pictures / 255, labels))
    assert (seen == labels).double().mean() >= 0.97
    assert judge.title(int(labels[0])) == str(SCENES[labels[0]]).replace("an ", "").replace("a ", "")


def test_a_scenes_logit_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    judge = ScenesJudge(width=4).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        shares, logits = judge.log_shares(images), judge(images)
    layouts, colours = len(LAYOUTS), len(COLOURS)
    assert shares.exp().sum(1).tolist() == pytest.approx([5, 5], rel=1e-5)  # each of five parts sums to one
    alone = SCENES.index(Scene("alone", (Thing("yellow", "star"),)))
    expected = shares[:, 0] + shares[:, layouts + 2] + shares[:, layouts + colours + 3]
    assert torch.allclose(logits[:, alone], expected, atol=1e-5)
    pair = SCENES.index(Scene("left of", (Thing("yellow", "star"), Thing("red", "heart"))))
    second = layouts + colours + len(SHAPES)
    expected = expected - shares[:, 0] + shares[:, 2] + shares[:, second] + shares[:, second + colours + 4]
    assert torch.allclose(logits[:, pair], expected, atol=1e-5)


def test_it_draws_what_captions_say_and_two_bits_hurt_it(scenes: Denoiser) -> None:
    full = scenes.generate(40, seed=7)
    assert full.images.shape == (40, 3, 64, 64)
    graph = q2.trace(scenes.model, scenes.example_inputs())
    with graph.installed():
        assert torch.allclose(full.images[:4], scenes.generate(4, seed=7).images, atol=1e-3)
        q2.run_passes(graph, [Quantize(default=Rule(RuleConfig("uaq", 2)))])
        accuracy = compare(full, scenes.generate(40, seed=7), scenes.judge()).accuracy
    assert accuracy is not None
    assert accuracy.full >= 0.95
    assert accuracy.quantized <= 0.4


def test_it_draws_prompts_or_classes_in_turn(scenes: Denoiser) -> None:
    assert scenes.conditions(range(2), Ask())["prompt"] == [str(SCENES[0]), str(SCENES[1])]
    assert scenes.conditions(range(2), Ask(classes=(5, 3)))["prompt"] == [str(SCENES[5]), str(SCENES[3])]
    assert scenes.labels(range(2), Ask(classes=(5, 3))) == [5, 3]
    assert scenes.conditions(range(2), Ask(prompts=("a star",)))["prompt"] == ["a star", "a star"]
    with pytest.raises(ConfigError, match="class 1230 is outside 0 to 1229"):
        scenes.check_classes(Ask(classes=(len(SCENES),)))


def test_drawings_are_the_same_from_a_seed_and_a_tiny_one_needs_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    from draw import draw_scenes

    one, other, third = (draw_scenes(20, seed=seed) for seed in (1, 1, 2))
    sys.modules.pop("draw")
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], third[0])
    counts = Counter(SCENES[label].layout == "alone" for label in draw_scenes(200, seed=0)[1].tolist())
    assert 20 <= counts[True] <= 60
    tiny = q2.denoiser("scenes-sd3", tiny=True)
    assert tuple(tiny.example_inputs(2)["hidden_states"].shape) == (2, 4, 8, 8)  # type: ignore[attr-defined]
