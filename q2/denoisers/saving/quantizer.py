"""What diffusers knows q2 by: a quantizer with ``quant_method = "q2"`` and its config, for packed weights.

Importing this module puts both into diffusers' tables; see `q2.registration`. Loading starts from a model on meta: its
quantized layers become packed ones without values, and what the files hold is put into them as it is.
"""

import copy
import re
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import Tensor, nn

from q2.denoisers.checkpoints.stored import StoredWeights
from q2.denoisers.saving.loaded import adapted_layer, settle, unsettle
from q2.denoisers.saving.places import drop_shared, put, put_shared
from q2.errors import CheckpointError, ConfigError, Q2Error, did_you_mean
from q2.graph.shared import shared_places
from q2.plugins import Plugins, current
from q2.quant.base import Quantizer
from q2.quant.dtypes import compact
from q2.quant.kinds import QUANTIZERS
from q2.quant.options import Option
from q2.quant.packed.layers import Packed, PackedPart, packed_layer, unpack_layer
from q2.quant.resolve import known_option
from q2.quant.simulated import Part
from q2.quant.widths import bits_of

__all__ = ["FORMAT", "Q2Config", "Q2Quantizer", "layers_table", "sources_of"]

FORMAT = "1.2"
_SOURCE = ("plugin", "version", "origin")
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
    without. `quantizers` says which plugin each quantizer came from: its name, version and origin ("built in", "entry
    point" or "local"). `original` says what the folder was made from: the settings that load its denoiser, the
    fingerprint of the weights and the revision of a Hub checkpoint. `shared` has the further names of modules at
    several places, each with the first. Format 1.0 had no `quantizers`, 1.1 neither `original` nor `shared`.

    Raises `CheckpointError`, one line with the key, for anything else.
    """

    quant_method: str = _Method.Q2
    format: str = FORMAT
    prec: int = 16
    dtype: str = "float32"
    layers: dict[str, Any] = field(default_factory=dict)
    activations: dict[str, Any] = field(default_factory=dict)
    quantizers: dict[str, Any] = field(default_factory=dict)
    shared: dict[str, Any] = field(default_factory=dict)
    original: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Read what a config.json says; a key that is unknown may come from a later minor version alone."""
        if "format" not in config_dict:
            raise _wrong(f"format is missing, expected {FORMAT!r}")
        later = _version(config_dict["format"]) > _version(FORMAT)
        known = [entry.name for entry in fields(cls)]
        for key in config_dict:
            if key not in known and not later:
                raise _wrong(f"unknown key {key!r}{did_you_mean(key, known)}")
        table = {key: value for key, value in config_dict.items() if key in known}
        return super().from_dict(table, return_unused_kwargs, **kwargs)

    def __post_init__(self) -> None:
        self.quant_method = _Method.Q2
        _version(self.format)
        if self.prec not in (16, 32) or isinstance(self.prec, bool):
            raise _wrong(f"prec {self.prec!r} is neither 16 nor 32")
        if not isinstance(self.dtype, str) or self.dtype not in _DTYPES:
            raise _wrong(f"dtype {self.dtype!r} is none of {', '.join(_DTYPES)}")
        for key in ("layers", "activations", "quantizers", "original", "shared"):
            if not isinstance(getattr(self, key), dict):
                raise _wrong(f"{key} is {getattr(self, key)!r}, expected a table")
        for layer in self.layers:
            self.parts(layer)
        for place, first in self.shared.items():
            if not isinstance(first, str):
                raise _wrong(f"shared.{place} is {first!r}, expected the name of a module")
        for key, value in self.activations.items():
            self._check_activations(key, value)
        for name, source in self.quantizers.items():
            if not isinstance(source, dict) or not all(isinstance(source.get(key), str) for key in _SOURCE):
                raise _wrong(f"quantizers.{name} is {source!r}, expected a table of {', '.join(_SOURCE)}")

    def _check_activations(self, key: str, value: object) -> None:
        if key == "by":
            if value not in ("type", "name", "regex"):
                raise _wrong(f"activations.by {value!r} is none of type, name, regex")
        elif not (key == "attention" and isinstance(value, bool)):
            try:
                bits_of(value, f"activations.{key}")
            except ConfigError as error:
                raise _wrong(str(error)) from error

    def parts(self, layer: str) -> list[Part]:
        """Return the option of every part of a layer. Raises `CheckpointError`."""
        entry = self.layers[layer]
        try:
            if isinstance(entry, str):
                return [Part(Option.parse(entry))]
            return [Part(Option.parse(option), None, (int(start), int(stop))) for option, start, stop in entry]
        except (Q2Error, ValueError, TypeError) as error:
            raise _wrong(f"layers.{layer}: {entry!r} is no option ({error})") from error


def _wrong(text: str) -> CheckpointError:
    return CheckpointError(f"config.json: quantization_config: {text}")


def _version(text: object) -> tuple[int, int]:
    """Return major and minor of a format. Raises `CheckpointError` for another major than this q2's."""
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", text, re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise _wrong(f"format {text!r} is none, expected {FORMAT!r}")
    known = FORMAT.partition(".")[0]
    if match[1] != known:
        raise _wrong(f"format {text!r} is of another version of q2, this one reads {known}.x")
    return int(match[1]), int(match[2])


def sources_of(model: nn.Module, plugins: Plugins) -> dict[str, Any]:
    """Return `Q2Config.quantizers` of the packed layers of a model.

    A quantizer that `plugins` has not got keeps what the folder says that the model was loaded from.
    """
    before = getattr(getattr(model, "hf_quantizer", None), "quantization_config", None)
    found = dict(before.quantizers) if isinstance(before, Q2Config) else {}
    parts = [part for module in model.modules() if isinstance(module, Packed) for part in module.parts]
    names = dict.fromkeys(part.option.quantizer for part in parts if not part.option.is_none)
    for name in names:
        if name in plugins.of(QUANTIZERS):
            info = plugins.info(plugins.of(QUANTIZERS)[name].owner)
            found[name] = dict(zip(_SOURCE, (info.name, info.version, info.kind), strict=True))
    return {name: found[name] for name in names if name in found}


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
        self._plugins = current()
        self._stored: StoredWeights | None = None
        self._where = ""
        self._model: weakref.ref[nn.Module] | None = None

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
        known, shared = dict(model.named_modules()), shared_places(model)
        keys: dict[str, dict[str, Tensor]] = {}
        for key in self._stored:
            layer, _, name = key.rpartition(".")
            keys.setdefault(layer, {})[name] = self._stored.empty(key)
        for name in self.quantization_config.layers:
            module = known.get(name)
            if module is None or not isinstance(getattr(module, "weight", None), Tensor):
                raise CheckpointError(f"{self._where}: the config quantizes {name!r}, the model has no such layer")
            parts = [
                PackedPart(part.option, None, part.channels, self._quantizer(part.option))
                for part in self.quantization_config.parts(name)
            ]
            buffers = {key: empty for key, empty in keys.get(name, {}).items() if _of_part(key)}
            kept = any(each in name.split(".") for each in keep_in_fp32_modules or ())
            layer = packed_layer(module, parts, buffers, torch.float32 if kept else self._dtype)
            self._check(name, cast(Packed, layer))
            put(model, name, layer, shared)
        for place, first in self.quantization_config.shared.items():
            if place not in known or first not in known:
                raise CheckpointError(
                    f"{self._where}: the config shares {place!r} with {first!r}, which are not both there"
                )
        put_shared(model, self.quantization_config.shared)
        return model

    def _quantizer(self, option: Option) -> Quantizer:
        """Return the quantizer of an option. Raises `CheckpointError` that says where to find a plugin's."""
        name, catalogue = option.quantizer, self._plugins.of(QUANTIZERS)
        source = self.quantization_config.quantizers.get(name)
        if name not in catalogue and source is not None:
            plugin, origin, version = (source[key] for key in ("plugin", "origin", "version"))
            what = f"{self._where}: the quantizer {name!r} comes from the plugin {plugin!r}"
            if origin == "local":
                raise CheckpointError(
                    f"{what} (local); give --config with [plugins] modules that names it, "
                    f"or in Python load it within q2.plugins.use([{plugin!r}])"
                )
            raise CheckpointError(f"{what} {version} ({origin}), which is not here; install it")
        try:
            known_option(str(option), catalogue)
            return catalogue.load(name)()
        except Q2Error as error:
            raise CheckpointError(f"{self._where}: {error}") from error

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
        missing_keys = drop_shared(missing_keys, self.quantization_config.shared)
        if missing_keys:
            first = min(missing_keys)
            raise CheckpointError(f"{self._where}: {len(missing_keys)} weights are missing, among them {first!r}")
        return missing_keys

    def check_if_quantized_param(
        self, model: nn.Module, param_value: Tensor, param_name: str, state_dict: dict[str, Tensor], **kwargs: Any
    ) -> bool:
        """Return whether a tensor of a file, of any shape, is a buffer of a packed layer."""
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
        """Put the file's tensor, with its shape and dtype, into its layer; `param_value` may have been cast."""
        owner, _, name = param_name.rpartition(".")
        model.get_submodule(owner)._buffers[name] = state_dict[param_name].to(target_device)

    def get_state_dict_and_metadata(
        self, state_dict: dict[str, Tensor], safe_serialization: bool = False
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors to save, of unchanged shapes; float32 that float16 holds exactly becomes float16.

        Raises `Q2Error` for pickles.
        """
        if not safe_serialization:
            raise Q2Error("packed weights are saved as safetensors; leave out safe_serialization=False")
        config = self.quantization_config
        state_dict = {name: state_dict[name] for name in drop_shared(list(state_dict), config.shared)}
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
        self.own(model)
        settle(model)
        return model

    def own(self, model: nn.Module) -> None:
        """Remember the model whose layers the config describes when it is saved."""
        self._model = weakref.ref(model)

    def _dequantize(self, model: nn.Module) -> nn.Module:
        shared = shared_places(model)
        for name, module in [*model.named_modules()]:
            if isinstance(module, Packed):
                put(model, name, unpack_layer(module), shared)
        unsettle(model)
        return model

    @property
    def is_serializable(self) -> bool:
        """Yes; diffusers asks before it writes anything, and the config is then of the layers as they are.

        Raises `Q2Error` where an adapter is attached.
        """
        model = self._model() if self._model else None
        if model is not None:
            if adapted := adapted_layer(model):
                raise Q2Error(
                    f"{adapted}: an adapter is attached to the packed layer; fuse_lora() and unload_lora() first, or "
                    "save the adapter alone with save_lora_weights() and unload it"
                )
            self.quantization_config.layers = layers_table(model)
            self.quantization_config.shared = shared_places(model)
        return True

    def __deepcopy__(self, memo: dict[int, Any]) -> "Q2Quantizer":
        other = copy.copy(self)
        memo[id(self)] = other
        other.quantization_config = copy.deepcopy(self.quantization_config, memo)
        model = self._model() if self._model else None
        copied = memo.get(id(model))
        other._model = weakref.ref(copied) if copied is not None else None
        return other

    @property
    def is_trainable(self) -> bool:
        """No: codes have no gradients."""
        return False

    @property
    def is_compileable(self) -> bool:
        """Yes."""
        return True


def _of_part(key: str) -> bool:
    """Return whether a tensor of a packed layer is one of its parts', which end with the part's number."""
    return key.rpartition("_")[2].isdigit()


AUTO_QUANTIZATION_CONFIG_MAPPING[_Method.Q2.value] = Q2Config
AUTO_QUANTIZER_MAPPING[_Method.Q2.value] = Q2Quantizer
