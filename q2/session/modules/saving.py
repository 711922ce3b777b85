"""A transformed graph in a folder: what its modules are now, their tensors, and the facts that are plain data."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from q2.config import dotted, validate
from q2.errors import CheckpointError, Q2Error, why
from q2.files import creating, read_json, write_json
from q2.graph import Fact, Graph
from q2.models.model import Model, load_model
from q2.passes.analysis.avg_bits import BITS
from q2.passes.analysis.flops import FLOPS, NodeFlops
from q2.passes.analysis.layer_bits import LayerBits
from q2.passes.analysis.profile import PROFILE
from q2.quant.formats import Format, Integer, MiniFloat, Mx
from q2.quant.formatted import Formats, Formatted, format_layer, formats_of
from q2.quant.options import Option
from q2.quant.simulated import Part, Quantized, parts_of, plan_layer
from q2.settings import DataSettings, ModelSettings
from q2.trust import check_trusted

__all__ = ["load_graph", "save_graph"]

_VERSION = 1
_HEAD, _TENSORS = "graph.json", "model.safetensors"
_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
)  # fmt: skip
_BATCH_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")
_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "Linear": ("in_features", "out_features", "bias"),
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _CONVOLUTION),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), _BATCH_NORM),
    "LayerNorm": ("normalized_shape", "eps", "elementwise_affine", "bias"),
    "RMSNorm": ("normalized_shape", "eps", "elementwise_affine"),
    "GroupNorm": ("num_groups", "num_channels", "eps", "affine"),
    "Identity": (),
}
_FORMATS: Mapping[str, type[Any]] = {"Integer": Integer, "MiniFloat": MiniFloat, "Mx": Mx}
_FACTS: Mapping[str, tuple[Fact[Any], Callable[[Any], Any], Callable[[Any], Any]]] = {
    "profile": (PROFILE, lambda value: value, lambda value: value),
    "bits": (BITS, lambda value: [asdict(each) for each in value], lambda value: [LayerBits(**each) for each in value]),
    "flops": (FLOPS, lambda value: [asdict(e) for e in value], lambda value: [NodeFlops(**e) for e in value]),
}


def save_graph(graph: Graph, settings: ModelSettings, folder: Path) -> None:
    """Write a graph whose module was made by `settings` into `folder`, which must not be there, or be empty.

    Raises `Q2Error` for a folder that is there, and for modules that cannot be written: of an unknown kind, or packed.
    """
    if settings.saved:
        settings = ModelSettings.model_validate(_read(Path(settings.saved))["model"])
    original = load_model(settings.model_copy(update={"weights": "random"}), DataSettings()).module
    before = dict(original.named_modules())
    modules: dict[str, Any] = {}
    for name, module in graph.model.named_modules():
        plain = before.get(name)
        if plain is None or str(plain) != str(module) or isinstance(module, Quantized):
            if any(True for _ in module.children()) and not isinstance(module, Quantized):
                continue  # something inside is another one
            modules[name] = _described(name, module)
    facts = {name: to(graph.facts.get(fact)) for name, (fact, to, _) in _FACTS.items() if fact in graph.facts}
    head = {
        "q2": "graph",
        "version": _VERSION,
        "model": settings.model_dump(mode="json", exclude_defaults=True),
        "modules": modules,
        "facts": facts,
        "graph": str(graph.fx),
    }
    try:
        with creating(folder) as beside:
            data = save({name: each.contiguous() for name, each in graph.model.state_dict().items()})
            (beside / _TENSORS).write_bytes(data)
            write_json(beside / _HEAD, head)
    except OSError as error:
        raise Q2Error(f"--save {folder}: {why(error)}") from error


def load_graph(folder: Path, data: DataSettings | None = None) -> tuple[Model, Graph]:
    """Return the model and the graph that `save_graph` wrote, with the facts. Raises `CheckpointError`."""
    head = _read(folder)
    settings = _settings(folder, head.get("model"))
    model = load_model(settings, data or DataSettings())
    try:
        return model, _restored(folder, head, model)
    except Q2Error:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError, MemoryError) as error:
        line = " ".join(str(error).split())
        raise CheckpointError(f"{folder / _HEAD}: is damaged: {type(error).__name__} {line}") from error


def _settings(folder: Path, table: object) -> ModelSettings:
    """Return the settings of a saved graph's model, whose factory is called if the folder is trusted: `q2.trust`."""
    if not isinstance(table, dict):
        raise CheckpointError(f"{folder / _HEAD}: model: expected a table")
    check_trusted(folder / _HEAD, {"model": table}, str(folder / _HEAD))
    return validate(ModelSettings, {**table, "weights": "random"}, lambda key: f"{folder / _HEAD}: model.{dotted(key)}")


def _restored(folder: Path, head: Mapping[str, Any], model: Model) -> Graph:
    """Give a fresh model the modules, tensors and formats of a saved one; return its graph, with the facts."""
    from q2.graph import trace

    for name, described in head["modules"].items():
        _put(model.module, name, described)
    try:
        model.module.load_state_dict(load_file(folder / _TENSORS))
    except (OSError, SafetensorError, RuntimeError) as error:
        line = " ".join(str(error).split())
        raise CheckpointError(f"{folder / _TENSORS}: does not fit: {line}") from error
    for name, described in head["modules"].items():
        module = model.module.get_submodule(name)
        if described["formats"]:
            forms = {role: _format(each) for role, each in described["formats"].items()}
            _set(model.module, name, format_layer(module, Formats(**forms)))
        elif described["option"]:
            _set(model.module, name, plan_layer(module, [Part(Option.parse(described["option"]))]))
    model.module.eval().requires_grad_(False)
    graph = trace(model.module, model.example_inputs())
    for name, value in head["facts"].items():
        fact, _, back = _FACTS[name]
        graph.facts.set(fact, back(value))
    model.source = str(folder)
    return graph


def _described(name: str, module: nn.Module) -> dict[str, Any]:
    """Return a module's class, the arguments that make it, its formats and its option."""
    kind = module.exact_class if isinstance(module, Quantized) else type(module)
    parts = parts_of(module)
    option = "" if parts[0].option.is_none else str(parts[0].option)
    if kind.__name__ not in _ARGUMENTS or len(parts) > 1:
        raise Q2Error(f"--save: {name} is a {kind.__name__}, which a folder cannot keep")
    bias = module._parameters.get("bias") is not None
    values = {key: bias if key == "bias" else getattr(module, key) for key in _ARGUMENTS[kind.__name__]}
    formats = formats_of(module) if isinstance(module, Formatted) else Formats()
    forms = {"data_in": formats.data_in, "weight": formats.weight, "bias": formats.bias}
    named = {role: _plain(form) for role, form in forms.items() if form is not None}
    return {"type": kind.__name__, "arguments": values, "formats": named, "option": option}


def _plain(form: Format) -> dict[str, Any]:
    found: dict[str, Any] = {"format": type(form).__name__} | asdict(form)  # type: ignore[call-overload]
    if isinstance(form, Mx):
        found["element"] = _plain(form.element)
    return found


def _format(table: Mapping[str, Any]) -> Format:
    values = {key: _format(each) if key == "element" else each for key, each in table.items() if key != "format"}
    found: Format = _FORMATS[table["format"]](**values)
    return found


def _put(model: nn.Module, name: str, described: Mapping[str, Any]) -> None:
    old = model.get_submodule(name)
    if type(old).__name__ == described["type"] and not described["arguments"]:
        return
    if described["type"] not in _ARGUMENTS:
        raise ValueError(f"{name}: a {described['type']!r} is no module that a folder keeps")
    kind: type[nn.Module] = getattr(nn, described["type"])
    values = {key: tuple(each) if isinstance(each, list) else each for key, each in described["arguments"].items()}
    _set(model, name, kind(**values))


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _read(folder: Path) -> dict[str, Any]:
    try:
        head = read_json(folder / _HEAD)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / _HEAD}: cannot be read: {why(error)}") from error
    if not isinstance(head, dict) or head.get("q2") != "graph" or head.get("version") != _VERSION:
        raise CheckpointError(f"{folder / _HEAD}: expected a graph that q2 saved, version {_VERSION}")
    found: dict[str, Any] = head
    return found
