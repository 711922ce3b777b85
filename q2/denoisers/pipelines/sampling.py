"""Ask a pipeline for images, batch by batch: image i comes from noise of its own, whatever the batch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from q2.denoisers.pipelines.latents import latents_of
from q2.denoisers.pipelines.outputs import images_of
from q2.denoisers.samples import Samples, batches, image_generator, image_seed
from q2.denoisers.silence_libraries import quiet
from q2.errors import ConfigError, Q2Error
from q2.progress import Progress, silent

__all__ = ["Call", "drawn", "sampled"]

Call = Callable[[range, list[torch.Generator]], Any]
"""Asks the pipeline for the images of these numbers, from these generators, and returns its output."""


def sampled(
    pipeline: Any,
    call: Call,
    labels: Callable[[range], list[int]],
    chosen: range,
    *,
    seed: int = 0,
    batch: int = 100,
    alone: bool = False,
    progress: Progress = silent,
) -> Samples:
    """Make the images with the numbers `chosen`, `batch` at a time, or each `alone` in a call.

    A pipeline that draws numbers without its generators is asked for one image at a time. Raises `ConfigError` for an
    output without images, and for what the pipeline itself refuses.
    """
    images, latents = [torch.empty(0, 3, 8, 8)], []
    todo = batches(chosen.start, len(chosen), batch)
    for some in progress(todo, "generate", -(-len(chosen) // batch)):
        parts = [range(i, i + 1) for i in some] if alone else [some]
        made = [drawn(pipeline, call, part, seed) for part in parts]
        if not alone and len(some) > 1 and made[0][2]:
            made = [drawn(pipeline, call, range(i, i + 1), seed) for i in some]
        images += [found for found, *_ in made]
        latents += [found for _, found, _ in made]
    kept = torch.cat(images[1:] or images)
    return Samples(kept, torch.tensor(labels(chosen), dtype=torch.long), torch.cat(latents) if latents else kept)


def drawn(pipeline: Any, call: Call, images: range, seed: int) -> tuple[Tensor, Tensor, bool]:
    """Return images (N, C, H, W), their final latents (N, ...), and whether other generators than theirs were used.

    Raises `ConfigError` for arguments that the pipeline refuses.
    """
    name = type(pipeline).__name__
    device = getattr(pipeline, "_execution_device", torch.device("cpu"))
    with (
        latents_of(pipeline) as kept,
        quiet(),
        _seeded(image_seed(seed, images.start), device) as used,
        torch.no_grad(),
    ):
        try:
            output = call(images, [image_generator(seed, i) for i in images])
        except Q2Error:
            raise
        except (ValueError, TypeError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(f"{name}: {reason}") from error
    made = images_of(output, name, len(images))
    return made, _latents(kept, made, len(images)), used[0]


def _latents(kept: list[Tensor], images: Tensor, count: int) -> Tensor:
    """Return the latents of every image; videos may be decoded some frames at a time."""
    if not kept:
        return images.reshape(count, -1, *images.shape[-3:]).squeeze(1)
    if len(kept) > 1 and kept[0].ndim == 5 and all(len(each) == count for each in kept):  # (N, C, f, h, w) in turn
        return torch.cat([each.reshape(count, -1) for each in kept], dim=1)
    found = torch.cat(kept)
    if len(found) == count:
        return found
    return found.reshape(count, -1, *found.shape[1:]) if len(found) % count == 0 else found[:count]


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[list[bool]]:
    """Seed torch's own numbers, the CPU's and those of `device`, within the `with`.

    The yielded list says afterwards whether any were drawn.
    """
    used = [False]
    places = [] if device.type in ("cpu", "mps", "meta") else [device.index or 0]
    module = torch.get_device_module(device)

    def states() -> list[Tensor]:
        return [torch.get_rng_state(), *(module.get_rng_state(place) for place in places)]

    with torch.random.fork_rng(places, device_type=device.type if places else "cuda"):
        torch.manual_seed(seed)
        before = states()
        yield used
        used[0] = not all(map(torch.equal, before, states()))
