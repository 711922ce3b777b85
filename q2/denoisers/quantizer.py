"""What diffusers knows q2 by: a quantizer with ``quant_method = "q2"`` and its config, for packed weights.

Importing this module puts both into diffusers' tables; see `q2.registration`. Loading starts from a model on meta: its
quantized layers become packed ones without values, and what the files hold is put into them as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import Tensor, nn

from q2.denoisers.stored import StoredWeights
from q2.errors import CheckpointError, Q2Error
from q2.plugins import Plugins
from q2.quant.dtypes import compact
from q2.quant.layers import Part
from q2.quant.options import Option
from q2.quant.packed import Packed, PackedPart, packed_layer, unpack_layer

__all__ = ["FORMAT", "Q2Config", "Q2Quantizer", "layers_table"]

FORMAT = "1.0"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class _Method(StrEnum):
    Q2 = "q2"


@dataclass
class Q2Config(QuantizationConfigMixin):  # type: ignore[misc]
    """The ``quantization_config`` of a config.json.

    `format` is major.minor: a reader takes any minor of its own major. `dtype` is what the weights are decoded to where
    the loader asks for no other, `prec` the width of parameters. `layers` has the option of every quantized layer, or
    of a split one a list of (option, first input channel, channel after the last). `activations` are the options of
    the pass ``quantize-activations`` that the weights were saved with, for q2 to run it again; diffusers computes
    without.
    """

    quant_method: str = _Method.Q2
    format: str = FORMAT
    prec: int = 16
    dtype: str = "float32"
    layers: dict[str, Any] = field(default_factory=dict)
    activations: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.quant_method = _Method.Q2
        major, known = str(self.format).partition(".")[0], FORMAT.partition(".")[0]
        if major != known:
            raise CheckpointError(
                f"quantization_config: format {self.format!r} is of another version of q2, this one reads {known}.x"
            )
        if self.dtype not in _DTYPES:
            raise CheckpointError(f"quantization_config: dtype {self.dtype!r} is none of {', '.join(_DTYPES)}")

    def parts(self, layer: str) -> list[Part]:
        """Return the option of every part of a layer. Raises `CheckpointError`."""
        entry = self.layers[layer]
        try:
            if isinstance(entry, str):
                return [Part(Option.parse(entry))]
            return [Part(Option.parse(option), None, (int(start), int(stop))) for option, start, stop in entry]
        except (Q2Error, ValueError, TypeError) as error:
            raise CheckpointError(f"quantization_config: layers.{layer}: {entry!r} is no option ({error})") from error


def layers_table(model: nn.Module) -> dict[str, Any]:
    """Return `Q2Config.layers` of the packed layers of a model."""
    table: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, Packed):
            parts = [[str(part.option), *(part.channels or ())] for part in module.parts]
            table[name] = parts if module.parts[0].channels else parts[0][0]
    return table


class Q2Quantizer(DiffusersQuantizer):  # type: ignore[misc]
    """Loads and saves models with packed layers; diffusers calls it."""

    use_keep_in_fp32_modules = True

    def __init__(self, quantization_config: Q2Config, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self._dtype = _DTYPES[quantization_config.dtype]
        self._stored: StoredWeights | None = None
        self._where = ""

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raise `Q2Error` where weights are to be quantized while they are loaded."""
        if not self.pre_quantized:
            raise Q2Error("q2 does not quantize while loading; q2 transform --save makes a folder that loads by itself")

    def update_torch_dtype(self, torch_dtype: torch.dtype | None) -> torch.dtype:
        """Return what the loader asks for, else what was saved."""
        self._dtype = torch_dtype or self._dtype
        return self._dtype

    def maybe_update_loaded_keys(self, loaded_keys: list[str], checkpoint_files: list[str]) -> list[str]:
        """Read the heads of the files: names, shapes and dtypes. Raises `CheckpointError` for one that is damaged."""
        files = [Path(file) for file in checkpoint_files]
        self._where = str(files[0].parent)
        if any(file.suffix != ".safetensors" for file in files):
            raise CheckpointError(f"{self._where}: packed weights are read from safetensors files alone")
        self._stored = StoredWeights(files)
        return loaded_keys

    def _process_model_before_weight_loading(
        self, model: nn.Module, keep_in_fp32_modules: list[str] | None = None, **kwargs: Any
    ) -> nn.Module:
        assert self._stored is not None
        known, plugins = dict(model.named_modules()), Plugins()
        keys: dict[str, dict[str, Tensor]] = {}
        for key in self._stored:
            layer, _, name = key.rpartition(".")
            keys.setdefault(layer, {})[name] = self._stored.empty(key)
        for name in self.quantization_config.layers:
            module = known.get(name)
            if module is None or not isinstance(getattr(module, "weight", None), Tensor):
                raise CheckpointError(f"{self._where}: the config quantizes {name!r}, the model has no such layer")
            parts = [
                PackedPart(part.option, None, part.channels, plugins.quantizers.load(part.option.quantizer)())
                for part in self.quantization_config.parts(name)
            ]
            buffers = {key: empty for key, empty in keys.get(name, {}).items() if _of_part(key)}
            kept = any(each in name.split(".") for each in keep_in_fp32_modules or ())
            layer = packed_layer(module, parts, buffers, torch.float32 if kept else self._dtype)
            self._check(name, cast(Packed, layer))
            owner, _, own = name.rpartition(".")
            setattr(model.get_submodule(owner), own, layer)
        return model

    def _check(self, name: str, layer: Packed) -> None:
        for number in range(len(layer.parts)):
            if not layer.held(number):
                raise CheckpointError(f"{self._where}: the weight of {name!r} is missing, the config names it")
        try:
            layer.check()
        except Q2Error as error:
            raise CheckpointError(f"{self._where}: {name!r} {error}") from error

    def update_missing_keys(self, model: nn.Module, missing_keys: list[str], prefix: str) -> list[str]:
        """Raise `CheckpointError` if anything is missing: diffusers would leave it without values."""
        if missing_keys:
            first = min(missing_keys)
            raise CheckpointError(f"{self._where}: {len(missing_keys)} weights are missing, among them {first!r}")
        return missing_keys

    def check_if_quantized_param(
        self, model: nn.Module, param_value: Tensor, param_name: str, state_dict: dict[str, Tensor], **kwargs: Any
    ) -> bool:
        """Say whether a tensor of a file is a packed layer's own."""
        owner, _, name = param_name.rpartition(".")
        module = model.get_submodule(owner)
        return isinstance(module, Packed) and name in module._buffers

    def create_quantized_param(
        self,
        model: nn.Module,
        param_value: Tensor,
        param_name: str,
        target_device: torch.device,
        state_dict: Mapping[str, Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Put the tensor into its layer as the file has it: `param_value` may have been cast."""
        owner, _, name = param_name.rpartition(".")
        model.get_submodule(owner)._buffers[name] = state_dict[param_name].to(target_device)

    def get_state_dict_and_metadata(
        self, state_dict: dict[str, Tensor], safe_serialization: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what to save, float32 that float16 holds exactly as float16. Raises `Q2Error` for pickles."""
        if not safe_serialization:
            raise Q2Error("packed weights are saved as safetensors; leave out safe_serialization=False")
        config = self.quantization_config
        kept = {
            f"{layer}.{number}"
            for layer in config.layers
            for number, part in enumerate(config.parts(layer))
            if not part.option.is_none
        }

        def is_kept(key: str) -> bool:
            return _of_part(key) and f"{key.rpartition('.')[0]}.{key.rpartition('_')[2]}" in kept

        return {key: tensor if is_kept(key) else compact(tensor) for key, tensor in state_dict.items()}, {}

    def get_cuda_warm_up_factor(self) -> int:
        """Return how many packed elements, mostly bytes of codes, are as large as two of the weights' dtype."""
        return 4

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        return model

    def _dequantize(self, model: nn.Module) -> nn.Module:
        for name, module in [*model.named_modules()]:
            if isinstance(module, Packed):
                owner, _, own = name.rpartition(".")
                setattr(model.get_submodule(owner), own, unpack_layer(module))
        return model

    @property
    def is_serializable(self) -> bool:
        """Yes."""
        return True

    @property
    def is_trainable(self) -> bool:
        """No: codes have no gradients."""
        return False

    @property
    def is_compileable(self) -> bool:
        """Yes."""
        return True


def _of_part(key: str) -> bool:
    """Say whether a tensor of a packed layer is one of its parts', which end with the part's number."""
    return key.rpartition("_")[2].isdigit()


AUTO_QUANTIZATION_CONFIG_MAPPING[_Method.Q2.value] = Q2Config
AUTO_QUANTIZER_MAPPING[_Method.Q2.value] = Q2Quantizer
