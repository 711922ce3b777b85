"""What every denoiser must do, as tests that its own inherit."""

import inspect
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from q2.denoisers import Denoiser
from q2.errors import CheckpointError
from q2.graph import Graph, trace

__all__ = ["DenoiserSuite"]


class DenoiserSuite:
    """Tests of a denoiser: a subclass called ``Test…`` sets `denoiser`, and pytest finds the rest.

    They draw with its tiny variant, whose weights are random, in two steps: images mean nothing, and are the same all
    the same. `largest` bounds the number of the tiny one's weights. `draws` is false for a denoiser whose tiny variant
    has no pipeline. No weights are loaded, and nothing is fetched.
    """

    denoiser: ClassVar[type[Denoiser]]
    largest: ClassVar[int] = 1_000_000
    draws: ClassVar[bool] = True
    _tiny: ClassVar[tuple[Denoiser, Graph]]

    @classmethod
    def tiny(cls) -> tuple[Denoiser, Graph]:
        """Return its tiny variant and the graph of it, made once for all tests of the class."""
        if "_tiny" not in vars(cls):
            made = cls.denoiser(tiny=True, device="cpu")
            cls._tiny = made, trace(made.model, made.example_inputs())
        return cls._tiny

    def test_it_says_what_it_is(self) -> None:
        """It has a name, a docstring, a component of its pipeline, and a protocol that makes sense."""
        assert self.denoiser.name
        assert self.denoiser.__doc__
        assert self.denoiser.component
        assert self.denoiser.protocol.steps >= 1
        assert self.denoiser.protocol.guidance >= 0
        assert isinstance(self.denoiser.default_checkpoint(), str)

    def test_its_tiny_variant_is_small_and_the_same_every_time(self) -> None:
        """Random weights come from a fixed seed, in the dtype asked for; torch's random numbers stay."""
        first, _ = self.tiny()
        state = torch.get_rng_state()
        second = self.denoiser(tiny=True, device="cpu")
        assert sum(weight.numel() for weight in first.model.parameters()) <= self.largest
        assert first.fingerprint == second.fingerprint
        assert torch.equal(torch.get_rng_state(), state)
        half = self.denoiser(tiny=True, device="cpu", dtype="bfloat16").model
        assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}
        assert type(half) is type(first.model)

    def test_its_example_inputs_are_those_of_its_model(self) -> None:
        """They are arguments of the model's forward, the same at every call, for any number of images."""
        denoiser, _ = self.tiny()
        taken = inspect.signature(denoiser.model.forward).parameters
        one, again, three = denoiser.example_inputs(), denoiser.example_inputs(), denoiser.example_inputs(3)
        assert set(one) == set(three) <= set(taken)
        same = [torch.equal(a, b) for a, b in zip(_tensors(one), _tensors(again), strict=True)]
        assert all(same)
        assert any(a.shape != b.shape for a, b in zip(_tensors(one), _tensors(three), strict=True))

    def test_its_graph_runs_as_its_model_does(self) -> None:
        """For the inputs that it was traced with, and for more images."""
        denoiser, graph = self.tiny()
        graph.verify()
        graph.verify(dict(denoiser.example_inputs(3)))
        assert graph.weight_layers
        assert graph.units()

    def test_on_meta_it_holds_nothing_and_draws_nothing(self) -> None:
        """At full size and on meta it has shapes alone: that is what plans and recipes are made with."""
        denoiser = self.denoiser(weights="meta")
        assert all(value.is_meta for value in denoiser.model.state_dict().values())
        assert max(_tensors(denoiser.example_inputs()), key=torch.numel).is_meta
        with pytest.raises(CheckpointError) as error:
            denoiser.pipeline()
        assert "\n" not in str(error.value)

    def test_an_image_depends_on_the_seed_and_its_number_alone(self) -> None:
        """In any batch, first or later, an image is the same; others and other seeds give others."""
        if self.draws:
            denoiser, _ = self.tiny()
            together = denoiser.generate(3, seed=5, steps=2, batch=3)
            alone = denoiser.generate(1, first=1, seed=5, steps=2, batch=1)
            largest = float(alone.latents.abs().max())
            assert torch.allclose(together.latents[1], alone.latents[0], atol=1e-5 * largest)
            assert together.labels[1] == alone.labels[0]
            assert not torch.equal(together.latents[0], together.latents[1])
            other = denoiser.generate(1, first=1, seed=6, steps=2)
            assert not torch.equal(alone.latents, other.latents)
            assert float(together.images.min()) >= 0
            assert float(together.images.max()) <= 1

    def test_its_pipeline_draws_the_same_with_the_graph(self) -> None:
        """Image by image, bit for bit: what is quantized in the graph is what the pipeline runs."""
        if self.draws:
            denoiser, graph = self.tiny()
            eager = denoiser.generate(2, seed=1, steps=2, batch=2)
            with graph.installed():
                traced = denoiser.generate(2, seed=1, steps=2, batch=2)
            assert torch.equal(eager.images, traced.images)


def _tensors(inputs: Any) -> list[Tensor]:
    """Return all tensors of nested inputs, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    values = inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, list | tuple) else ()
    return [tensor for value in values for tensor in _tensors(value)]
