"""Example inputs of any diffusers denoiser, derived from the names of its forward's parameters and from its config."""

from __future__ import annotations

from torch import nn

from q2.denoisers.inputs.rules import Rules, derive
from q2.denoisers.inputs.shapes import Shapes
from q2.errors import TraceError

__all__ = ["example_inputs"]


def example_inputs(model: nn.Module, batch: int = 1, *, size: int | None = None, tokens: int = 9) -> dict[str, object]:
    """Return keyword arguments of the model's forward for `batch` images, the same at every call.

    `size` is the latents' height and width (or length), if not the config's; `tokens` is the number of text tokens.
    Tensors have the model's dtype and device; beside a model on meta, masks, numbers and positions have data, so that a
    trace can follow decisions on them. Raises TraceError for an input that the config says nothing about.

    >>> from diffusers import DiTTransformer2DModel
    >>> model = DiTTransformer2DModel(num_attention_heads=1, attention_head_dim=8, num_layers=1, sample_size=8)
    >>> {name: tuple(value.shape) for name, value in example_inputs(model, 2).items()}
    {'hidden_states': (2, 4, 8, 8), 'timestep': (2,), 'class_labels': (2,)}
    """
    shapes = Shapes.of(model, batch, size, tokens)
    rules = Rules(shapes)
    inputs: dict[str, object] = {}
    for name, parameter in shapes.parameters.items():
        if name == "return_dict" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = derive(rules, name)
        if value is not None:
            inputs[name] = value
        elif parameter.default is parameter.empty:
            raise TraceError(
                f"{type(model).__name__}: its config does not tell what input {name!r} is; "
                "a plugin's Denoiser.example_inputs can give it"
            )
    return inputs
