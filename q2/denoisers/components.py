"""The other parts of a pipeline: which of their Linear layers are quantized, how large they are then, in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from q2.errors import ConfigError, did_you_mean
from q2.graph.shared import shared_places
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Option, Part, parts_of, quantize_parts
from q2.quant.kinds import QUANTIZERS

__all__ = ["ComponentSize", "check_components", "component_size", "linears", "quantize_component"]

_AUTOENCODERS = ("vae", "vqvae", "vqgan", "movq", "image_encoder_vae", "audio_vae")


@dataclass(frozen=True)
class ComponentSize:
    """What a component's Linear layers take: how many are quantized, of how many; bytes now and at `prec` bits."""

    name: str
    layers: int
    of: int
    weights: int
    bits: int
    bytes: int
    full_bytes: int
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """The size in a line."""
        average = self.bits / max(self.weights, 1)
        return (
            f"{self.name}: {self.layers} of {self.of} Linear layers, {self.bytes / 1e6:.2f} MB, {average:.3f} bits a "
            f"weight (full: {self.full_bytes / 1e6:.2f} MB)"
        )

    @property
    def data(self) -> dict[str, object]:
        """The same for ``report.json``."""
        return {
            "avg_bits": self.bits / max(self.weights, 1),
            "bytes": self.bytes,
            "full_bytes": self.full_bytes,
            "weights": self.weights,
            "layers": dict(self.options),
        }


def check_components(names: Sequence[str], there: Mapping[str, str], denoiser: str) -> None:
    """Raise `ConfigError` for a component that is not there, is the denoiser, or an autoencoder.

    `there` has the components with weights, each with its class.
    """
    for name in names:
        if name == denoiser:
            raise ConfigError(f"components.{name}: is the denoiser, which [passes.quantize] is for")
        if name not in there:
            found = did_you_mean(name, there)
            raise ConfigError(
                f"components.{name}: the pipeline has no such part{found} (there are: {', '.join(there)})"
            )
        if name in _AUTOENCODERS or there[name].startswith("Autoencoder"):
            raise ConfigError(f"components.{name}: is an autoencoder, which is not quantized")


def linears(component: nn.Module) -> dict[str, nn.Linear]:
    """Return the Linear layers of a component that hold a weight, by name; one at several places by its first."""
    return {
        name: module
        for name, module in component.named_modules()
        if isinstance(module, nn.Linear) and isinstance(getattr(module, "weight", None), Tensor)
    }


def quantize_component(
    component: nn.Module,
    options: Mapping[str, Option],
    plugins: Plugins,
    *,
    prec: int = 16,
    progress: Progress = silent,
) -> None:
    """Put simulated layers into a component, in place: `options` by the names of its Linear layers.

    A weight that another module holds too, as an embedding that is tied to the output, keeps the layer as it is.
    """
    layers, shared = linears(component), shared_places(component)
    tied = _tied(component)
    todo = [name for name, option in options.items() if not option.is_none]
    for name in progress(todo, "quantize", len(todo)):
        layer, option = layers[name], options[name]
        if id(layer.weight) in tied:
            continue
        quantizer = plugins.of(QUANTIZERS).load(option.quantizer)()
        fitted = quantizer.fit(layer.weight.detach(), option.bits, prec)
        made = quantize_parts(layer, [Part(option, fitted.without_weight())], layer.weight.detach())
        for place in (name, *(each for each, first in shared.items() if first == name)):
            owner, _, own = place.rpartition(".")
            setattr(component.get_submodule(owner), own, made)


def component_size(name: str, component: nn.Module, plugins: Plugins, prec: int = 16) -> ComponentSize:
    """Return what a component's Linear layers take, exactly as they are saved."""
    weights = bits = held = 0
    options: dict[str, str] = {}
    layers = linears(component)
    for each, layer in layers.items():
        option, shape = parts_of(layer)[0].option, layer.weight.shape
        quantizer = plugins.of(QUANTIZERS).load(option.quantizer)()
        overhead, total = (
            quantizer.overhead_bits(shape, option.bits, prec),
            quantizer.size_bits(shape, option.bits, prec),
        )
        held += -(-(total - overhead) // 8) + overhead // 8
        bits, weights = bits + total, weights + shape.numel()
        if not option.is_none:
            options[each] = str(option)
    return ComponentSize(name, len(options), len(layers), weights, bits, held, weights * prec // 8, options)


def _tied(component: nn.Module) -> set[int]:
    """Return the ids of weights that several modules hold."""
    seen: dict[int, int] = {}
    for module in component.modules():
        weight: Any = module._parameters.get("weight")
        if weight is not None:
            seen[id(weight)] = seen.get(id(weight), 0) + 1
    return {key for key, count in seen.items() if count > 1}
