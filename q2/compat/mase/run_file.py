"""MASE's run files as q2's: every key is mapped, or named with the reason why it is not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from q2.compat.mase.models import ALIASES
from q2.compat.mase.transforms import quantize_rules
from q2.config import Table, flatten, to_toml
from q2.errors import ConfigError
from q2.files import read_toml

__all__ = ["Imported", "imported"]

_PLAIN: Mapping[str, tuple[str, ...]] = {
    "seed": ("seed",),
    "batch_size": ("data", "batch"),
    "num_workers": ("data", "workers"),
    "max_epochs": ("train", "epochs"),
    "learning_rate": ("train", "learning_rate"),
    "weight_decay": ("train", "weight_decay"),
    "training_optimizer": ("train", "optimizer"),
    "load_name": ("model", "weights"),
}
_DROPPED: Mapping[str, str] = {
    "task": "q2's networks classify",
    "project": "--out names the folder of a run",
    "project_dir": "--out names the folder of a run",
    "load_type": "a weights file says by itself what it is",
    "log_every_n_steps": "every epoch is reported",
    "log_level": "q2 prints what a run does",
    "report_to": 'TensorBoard: [plugins] modules = ["q2.plugins.tensorboard"]',
    "max_steps": "train.steps bounds the steps of an epoch",
    "trainer_precision": "modules are trained in their own dtype",
    "strategy": "training runs on one device",
    "num_devices": "training runs on one device",
    "num_nodes": "training runs on one device",
    "accumulate_grad_batches": "a batch is a step",
    "is_to_auto_requeue": "for clusters that q2 does not know",
    "github_ci": "MASE's own tests",
    "disable_dataset_cache": "nothing is cached",
    "to_debug": "q2 --debug shows the traceback of an error",
    "quant_config": "rules stand in [passes.quantize]",
    "target": "a board for hardware, which q2 does not generate",
    "num_targets": "a board for hardware, which q2 does not generate",
    "is_pretrained": "model.weights says it",
    "max_token_len": "for language models",
    "search.search_space.name": "search.space.transform says it",
    "search.strategy.name": "search.strategy says it",
    "search.strategy.eval_mode": "every trial is evaluated in evaluation mode",
    "search.strategy.setup.timeout": "a search ends with its trials; Ctrl-C is safe",
    "search.strategy.setup.direction": "every metric has a direction of its own",
    "search.strategy.setup.model_parallel": "a trial runs on one device",
}
_DATA = {"jsc": "jets", "digits": "digits", "jets": "jets"}
_DEVICES = {"cuda": "cuda", "gpu": "cuda", "cpu": "cpu", "auto": "auto"}
_METRICS = {"accuracy": "accuracy", "loss": "loss", "average_bitwidth": "average_bitwidth", "latency": "latency"}
_SPACES = {"graph/quantize/mixed_precision_ptq": "quantize", "graph/software/channel_multiplier": "channel-width"}
_TYPES = ("linear", "conv1d", "conv2d", "relu", "batch_norm1d", "batch_norm2d", "layer_norm", "add", "matmul")
_SPLITS = {"train_dataloader": "train", "val_dataloader": "validation", "test_dataloader": "test"}


@dataclass
class Imported:
    """A run file of q2, and for each of MASE's keys q2's key, or the reason why there is none."""

    table: Table = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)

    def put(self, key: str, path: tuple[str, ...], value: object) -> None:
        """Set a setting of q2's, and say from which key it comes."""
        inner = self.table
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = value
        self.say(key, ".".join(path))

    def say(self, key: str, what: str) -> None:
        """Record q2's counterpart of a key."""
        self.rows.append((key, what))
        self.settled.add(key)

    @property
    def text(self) -> str:
        """The run file."""
        return to_toml(self.table)


def imported(path: str | Path) -> Imported:
    """Read a run file of MASE's. Raises `ConfigError` for one that cannot be read, or whose model q2 does not know."""
    table = read_toml(Path(path), ConfigError)
    found = Imported()
    try:
        _basics(found, table)
        for title, options in table.get("passes", {}).items():
            _pass(found, title, options)
        if isinstance(table.get("search"), dict):
            _space(found, table["search"].get("search_space", {}))
            _strategy(found, table["search"].get("strategy", {}))
    except (TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:  # a value of another type
        raise ConfigError(f"{path}: is no run file of MASE's: {error}") from error
    for key in map(".".join, flatten(table)):
        if not any(key == each or key.startswith(f"{each}.") for each in found.settled):
            found.say(key, f"no counterpart: {_DROPPED.get(key, 'q2 knows no such key')}")
    return found


def _basics(found: Imported, table: Mapping[str, Any]) -> None:
    for key, path in _PLAIN.items():
        if key in table:
            found.put(key, path, table[key])
    if "model" in table:
        name = str(table["model"])
        found.put("model", ("model", "name"), ALIASES.get(name, name))
    for key, section, known in (("dataset", "data", _DATA), ("accelerator", "model", _DEVICES)):
        if key in table:
            name = str(table[key])
            if name in known:
                found.put(key, (section, "name" if section == "data" else "device"), known[name])
            else:
                found.say(key, f"no counterpart: {name!r} is none of {', '.join(known)}")


def _pass(found: Imported, title: str, options: Mapping[str, Any]) -> None:
    if title == "quantize":
        found.put(f"passes.{title}", ("passes", title), quantize_rules(dict(options)))
    elif title == "profile_statistics":
        kept = {key: value for key, value in options.items() if key != "input_generator"}
        found.put(f"passes.{title}", ("passes", "profile-statistics"), kept)
    else:
        found.say(f"passes.{title}", "no counterpart: add a pass of q2's (q2 list passes)")


def _space(found: Imported, space: Mapping[str, Any]) -> None:
    prefix, name = "search.search_space", str(space.get("name", ""))
    if name and name not in _SPACES and "channel" not in str(space):
        found.say(f"{prefix}.name", f"no counterpart: {name!r} is none of {', '.join(_SPACES)}")
        return
    channels = "channel_multiplier" in str(space)
    if name:
        found.put(f"{prefix}.name", ("search", "space", "transform"), "channel-width" if channels else "quantize")
    by = str(space.get("setup", {}).get("by", "type"))
    if "setup" in space:
        found.put(f"{prefix}.setup.by", ("search", "space", "by"), by)
    for key, entry in space.get("seed", {}).items():
        if key == "by":
            found.put(f"{prefix}.seed.by", ("search", "space", "by"), entry)
            continue
        place = f"{prefix}.seed.{key}"
        if by == "name" and key in _TYPES:
            found.say(place, f"no counterpart: by = 'name' looks at names of layers alone, {key!r} is a type")
        elif by == "type" and key not in (*_TYPES, "default"):
            found.say(place, f"no counterpart: by = 'type' looks at types of layers alone, {key!r} is none")
        else:
            lists = {name: list(values) for name, values in entry.get("config", entry).items()}
            found.put(place, ("search", "space", "lists", key), lists)


def _strategy(found: Imported, strategy: Mapping[str, Any]) -> None:
    prefix, setup = "search.strategy", strategy.get("setup", {})
    if "name" in strategy:
        found.put(f"{prefix}.name", ("search", "strategy"), strategy["name"])
    _runners(found, strategy)
    for key, path in {
        "n_jobs": ("search", "engine", "workers"),
        "n_trials": ("search", "trials"),
        "sampler": ("search", "strategies", "optuna", "sampler"),
    }.items():
        if key in setup:
            found.put(f"{prefix}.setup.{key}", path, setup[key])
    if "sum_scaled_metrics" in setup:
        combine = "sum" if setup["sum_scaled_metrics"] else "pareto"
        found.put(f"{prefix}.setup.sum_scaled_metrics", ("search", "strategies", "optuna", "combine"), combine)
    for name, options in strategy.get("metrics", {}).items():
        _metric(found, name, options)


def _metric(found: Imported, name: str, options: Mapping[str, Any]) -> None:
    place = f"search.strategy.metrics.{name}"
    if name not in _METRICS:
        found.say(place, f"no counterpart: q2 measures {', '.join(_METRICS)} and more (docs/mase.md)")
        return
    scale = float(options.get("scale", 1.0))
    if scale <= 0:
        raise ConfigError(f"{place}.scale: expected a number above 0, not {scale}")
    target: Table = {"direction": options.get("direction", "minimize"), "scale": 1 / scale}
    found.put(place, ("search", "metrics", _METRICS[name]), target)


def _runners(found: Imported, strategy: Mapping[str, Any]) -> None:
    prefix = "search.strategy"
    for runner, name in (("basic_evaluation", "evaluate"), ("basic_train", "train")):
        options = strategy.get("sw_runner", {}).get(runner)
        if options is None:
            continue
        place = f"{prefix}.sw_runner.{runner}"
        found.put(place, ("search", "runner", "name"), name)
        if options.get("data_loader") in _SPLITS and name == "evaluate":
            found.put(f"{place}.data_loader", ("search", "runner", "split"), _SPLITS[options["data_loader"]])
        if "num_samples" in options and name == "evaluate":
            found.put(f"{place}.num_samples", ("search", "runner", "samples"), options["num_samples"])
        if "max_epochs" in options:
            found.put(f"{place}.max_epochs", ("train", "epochs"), options["max_epochs"])
    for runner in strategy.get("hw_runner", {}):
        found.say(f"{prefix}.hw_runner.{runner}", "measured in every trial")
