"""What a diffusers model with packed layers is after loading: it is counted, cast and offloaded as any other."""

from functools import partial
from typing import Any

from torch import nn

from q2.quant.packed.layers import Packed

__all__ = ["adapted_layer", "count_parameters", "settle", "unsettle"]

_SWITCH = "packed_weights"


def settle(model: Any) -> None:
    """Let a loaded model count the weights that its codes stand for, be cast, and be offloaded whole.

    diffusers refuses to cast what it calls quantized; packed layers keep their codes and parameters whatever they are
    cast to. Its sequential offload leaves buffers, and so codes, on the device unless the model itself has an entry
    among its parameters: the one that it gets here is None, which is neither saved nor counted.
    """
    model.is_quantized = False
    model.num_parameters = partial(count_parameters, model)
    if _SWITCH not in model._parameters:
        model.register_parameter(_SWITCH, None)


def unsettle(model: Any) -> None:
    """Take back what `settle` did, for a model without packed layers."""
    from diffusers.configuration_utils import FrozenDict

    vars(model).pop("num_parameters", None)
    vars(model).pop("quantization_method", None)
    model._parameters.pop(_SWITCH, None)
    model.is_quantized = False
    if hasattr(model, "_internal_dict"):  # of diffusers
        config = {key: value for key, value in model._internal_dict.items() if key != "quantization_config"}
        model._internal_dict = FrozenDict(config)
    elif hasattr(model.config, "quantization_config"):  # of transformers
        del model.config.quantization_config


def count_parameters(model: nn.Module, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
    """Return `ModelMixin.num_parameters` with every packed weight counted by its elements; codes have no gradient."""
    embeddings = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
    own = [
        parameter.numel()
        for name, parameter in model.named_parameters()
        if (parameter.requires_grad or not only_trainable) and not (exclude_embeddings and name in embeddings)
    ]
    packed = [] if only_trainable else [m.shape.numel() for m in model.modules() if isinstance(m, Packed)]
    return sum(own) + sum(packed)


def adapted_layer(model: nn.Module) -> str | None:
    """Return the name of a packed layer that an adapter (PEFT's) is attached to, None if there is none."""
    return next(
        (
            name.removesuffix(".base_layer")
            for name, module in model.named_modules()
            if name.endswith(".base_layer") and isinstance(module, Packed)
        ),
        None,
    )
