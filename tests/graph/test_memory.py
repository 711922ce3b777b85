"""The peak of memory is that of PyTorch's own allocator, on meta as with weights."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import q2
from q2.denoisers import Denoiser, load
from q2.graph.memory import peak_bytes


def test_the_peak_of_a_denoiser_is_the_allocators_and_the_same_on_meta(digits: Denoiser) -> None:
    inputs = digits.example_inputs(8)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen, torch.no_grad():
        made = digits.model(**inputs)
    held = most = 0
    events = seen.profiler.kineto_results.events()
    for event in sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    del made
    shapes = q2.denoiser("digits-dit", weights="meta")
    model, without = shapes.model, shapes.example_inputs(8)
    assert peak_bytes(lambda: digits.model(**inputs)) == most
    assert peak_bytes(lambda: model(**without)) == most


@pytest.mark.parametrize("name", ["flux", "qwen-image", "sana", "sdxl", "wan21"])
def test_positions_that_a_model_keeps_on_the_cpu_do_not_matter_on_meta(name: str) -> None:
    peaks = []
    for denoiser in (load(name, weights="random", tiny=True), load(name, weights="meta", tiny=True)):
        model, inputs = denoiser.model, denoiser.example_inputs()
        peaks.append(peak_bytes(functools.partial(model, **inputs)))
    assert peaks[0] == peaks[1] > 0


def test_tensors_that_are_freed_or_were_there_before_do_not_count() -> None:
    given = torch.zeros(100, device="meta")

    def compute() -> Tensor:
        for _ in range(5):
            made = given * 2  # the one before is freed behind the product
        return made.view(10, 10)

    assert peak_bytes(compute) == 2 * 400
    assert peak_bytes(lambda: given.view(50, 2)) == 0


def test_attention_on_meta_holds_no_scores() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, key=x, value=x)

    given = torch.zeros(1, 1, 1000, 8, device="meta")
    assert peak_bytes(lambda: Attention()(given)) == 4 * 8000
