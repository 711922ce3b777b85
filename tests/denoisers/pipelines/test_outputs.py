"""Images of every kind that pipelines give, and final latents, come back in one form."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from q2.denoisers.pipelines.latents import latents_of
from q2.denoisers.pipelines.outputs import images_of
from q2.denoisers.pipelines.sampling import sampled
from q2.errors import ConfigError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), np.uint8)
FLOATS = PIXELS.astype(np.float32) / 255
EXPECTED = torch.from_numpy(FLOATS).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "output",
    [
        {"images": FLOATS},
        {"images": EXPECTED},
        {"images": list(FLOATS)},
        {"images": [Image.fromarray(each) for each in PIXELS]},
        {"frames": FLOATS.reshape(2, 2, 8, 6, 3)},
        {"frames": [FLOATS[:2], FLOATS[2:]]},
        {"frames": [[Image.fromarray(each) for each in half] for half in (PIXELS[:2], PIXELS[2:])]},
        {"frames": EXPECTED.reshape(2, 2, 3, 8, 6)},
    ],
)
def test_all_kinds_of_images_are_the_same(output: dict[str, Any]) -> None:
    assert torch.equal(images_of(SimpleNamespace(**output), "Any", 2), EXPECTED)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="AudioLDM2Pipeline gives no images but audios, and q2 measures images"):
        images_of(SimpleNamespace(audios=np.zeros((2, 100))), "AudioLDM2Pipeline", 2)
    with pytest.raises(ConfigError, match=r"Any gives an array \(3, 3, 8, 6\) for 2 images, expected \(N, C, H, W\)"):
        images_of(SimpleNamespace(images=FLOATS[:3]), "Any", 2)


class Decoder(nn.Module):
    def decode(self, latents: Tensor) -> Tensor:
        return latents


class Drawing:
    """A pipeline whose image is its noise; `own` takes torch's numbers in place of the generators'."""

    def __init__(self, own: bool = False) -> None:
        self.vae, self.own, self.calls = Decoder(), own, [0]

    def __call__(self, generators: list[torch.Generator]) -> Any:
        self.calls.append(len(generators))
        noise = [torch.rand(3, 8, 8, generator=None if self.own else each) for each in generators]
        return SimpleNamespace(images=self.vae.decode(torch.stack(noise)))


def drawn(pipeline: Drawing, chosen: range, **options: Any) -> Tensor:
    made = sampled(pipeline, lambda _, generators: pipeline(generators), list, chosen, seed=5, **options)
    assert torch.equal(made.images, made.latents)
    assert made.labels.tolist() == list(chosen)
    return made.images


@pytest.mark.parametrize("own", [False, True])
def test_image_i_is_the_same_in_any_batch_and_leaves_torchs_numbers_alone(own: bool) -> None:
    pipeline, state = Drawing(own), torch.get_rng_state()
    together = drawn(pipeline, range(4), batch=4)
    assert torch.equal(drawn(pipeline, range(3, 4)), together[3:])
    assert torch.equal(drawn(pipeline, range(4), alone=True), together)
    assert not torch.equal(together[0], together[1])
    assert torch.equal(torch.get_rng_state(), state)
    assert pipeline.calls[1:] == ([4, 1, 1, 1, 1] if own else [4]) + [1] * 5


def test_the_autoencoder_is_left_as_it_was() -> None:
    pipeline = Drawing()
    with latents_of(pipeline) as kept:
        pipeline.vae.decode(torch.ones(2, 3))
    assert torch.equal(torch.cat(kept), torch.ones(2, 3))
    assert "decode" not in vars(pipeline.vae)
