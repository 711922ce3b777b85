"""What transformers knows q2 by: packed layers in text encoders and other parts of a pipeline.

Importing this module puts q2 into transformers' tables; see `q2.registration`. Files, config and layers are those of
`q2.denoisers.saving.quantizer`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from transformers.quantizers.base import HfQuantizer

from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.saving.quantizer import Q2Config, Q2Quantizer
from q2.errors import CheckpointError, Q2Error
from q2.graph.shared import shared_places
from q2.quant.packed.layers import Packed, unpack_layer

__all__ = ["Q2Transformers"]


class Q2Transformers(HfQuantizer):
    """Loads and saves transformers' models with packed layers; transformers calls it."""

    def __init__(self, quantization_config: Q2Config, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._inner = Q2Quantizer(quantization_config, pre_quantized=True)

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raise `Q2Error` where weights are to be quantized while they are loaded."""
        if not self.pre_quantized:
            raise Q2Error("q2 does not quantize while loading; q2 transform --save makes a folder that loads by itself")

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Remember what the weights are decoded to: what the loader asks for, else what was saved."""
        return self._inner.update_torch_dtype(dtype if isinstance(dtype, torch.dtype) else None)

    def _process_model_before_weight_loading(  # type: ignore[no-untyped-def]
        self, model, checkpoint_files: Sequence[str] = (), **kwargs: Any
    ):
        files = [Path(file) for file in checkpoint_files]
        if not files or any(file.suffix != ".safetensors" for file in files):
            raise CheckpointError("packed weights are read from safetensors files alone")
        self._inner.maybe_update_loaded_keys([], [str(file) for file in files])
        stored = self._inner._stored
        assert stored is not None
        self._inner._stored = _as_in_model(stored, model)
        return self._inner._process_model_before_weight_loading(model)

    def _process_model_after_weight_loading(self, model, **kwargs: Any):  # type: ignore[no-untyped-def]
        model.is_quantized = False  # a cast moves what is plain
        return model

    def _dequantize(self, model, dtype=None):  # type: ignore[no-untyped-def]
        from q2.denoisers.saving.places import put

        shared = shared_places(model)
        for name, module in [*model.named_modules()]:
            if isinstance(module, Packed):
                put(model, name, unpack_layer(module), shared)
        return model

    def is_serializable(self) -> bool:
        """Yes."""
        return True

    @property
    def is_trainable(self) -> bool:
        """No: codes have no gradients."""
        return False


def _as_in_model(stored: StoredWeights, model: nn.Module) -> StoredWeights:
    """Return the tensors by the model's names of layers; files keep the ``text_model`` that older versions had."""
    known = dict(model.named_modules())
    names = {}
    for name in stored:
        plain = name.removeprefix("text_model.")
        names[plain if name.rpartition(".")[0] not in known and plain.rpartition(".")[0] in known else name] = name
    return stored.renamed(names)


AUTO_QUANTIZATION_CONFIG_MAPPING["q2"] = Q2Config
AUTO_QUANTIZER_MAPPING["q2"] = Q2Transformers
