"""Wider or narrower layers: a multiplier for the output channels of each, and inputs that follow."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from q2.config import Key, Table, validate
from q2.errors import ConfigError, did_you_mean
from q2.passes.base import Change, PassContext, TextTable, TransformPass
from q2.passes.transform.rules import By, matching

if TYPE_CHECKING:
    from q2.graph import Graph

__all__ = ["ChannelConfig", "ChannelWidth"]


@dataclass(frozen=True)
class ChannelConfig:
    """What is done to a layer: its output channels are multiplied; 1 leaves them."""

    channel_multiplier: float = 1.0
    name: str = ""
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if not self.channel_multiplier > 0:
            raise ConfigError(f"channel_multiplier: expected a number above 0, not {self.channel_multiplier}")


@dataclass(frozen=True)
class ChannelWidth(TransformPass):
    """Multiply the output channels of layers, by type, name or regex, and give their readers as many inputs.

    Shapes stay consistent: norms get as many channels, both sides of a residual must be widened alike, and behind a
    concatenation or a flattening every part counts. Layers are new, with weights drawn from the seed: train them
    afterwards. What cannot be widened, such as the model's outputs, is an error that says why.
    """

    name: ClassVar[str] = "channel-width"
    by: By = "type"
    """How rules match a layer: its `type` (`linear`, `conv2d`, …), its `name`, or a `regex` searched in the name."""
    default: ChannelConfig = field(default_factory=ChannelConfig)
    """The multiplier of output channels where no rule matches."""
    rules: Mapping[str, ChannelConfig] = field(default_factory=dict)
    """Every further key is a rule: a type, name or expression, with its multiplier."""

    @classmethod
    def from_table(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Read the options; every other key is a rule: a table with ``config``, or a multiplier as a number.

        Raises `ConfigError`, naming the key, for values of another type.
        """
        own = {entry.name for entry in dataclasses.fields(cls)} - {"rules"}
        read: dict[str, ChannelConfig] = {}
        for key, value in table.items():
            if key == "by":
                continue
            config = {"channel_multiplier": value} if isinstance(value, int | float) else value
            if not isinstance(config, dict):
                raise ConfigError(f"{where((key,))}: unknown key{did_you_mean(key, own)}")
            inner = config.get("config", config) if len(config) == 1 else config
            path: Key = (key, "config") if "config" in config else (key,)
            try:
                read[key] = validate(ChannelConfig, inner, lambda k, p=path: where((*p, *k)))  # type: ignore[misc]
            except ConfigError as error:
                text = str(error)
                raise ConfigError(text if text.startswith(where((key,))) else f"{where(path)}: {text}") from None
        by = table.get("by", "type")
        if by not in ("type", "name", "regex"):
            raise ConfigError(f"{where(('by',))}: should be 'type', 'name' or 'regex', not {by!r}")
        default = read.pop("default", ChannelConfig())
        return cls(by, default, read)

    def to_table(self) -> Table:
        """Return the options as `from_table` reads them."""
        rules = {"default": self.default, **self.rules}
        return {"by": self.by} | {key: each.channel_multiplier for key, each in rules.items()}

    def check(self, graph: "Graph", ctx: PassContext) -> None:
        """Raise `ConfigError` for a rule that matches no layer."""
        self.plan(graph)

    def plan(self, graph: "Graph") -> dict[str, float]:
        """Return the multiplier of every weight layer; 1 where nothing is said."""
        types = {name: layer.type for name, layer in graph.weight_layers.items()}
        found: dict[str, float] = {}
        for key, config in self.rules.items():
            found = dict.fromkeys(matching(self.by, key, types), config.channel_multiplier) | found
        return {name: found.get(name, self.default.channel_multiplier) for name in types}

    def run(self, graph: "Graph", ctx: PassContext) -> Change:
        """Replace layers and norms, and trace the model anew."""
        from q2.passes.transform.widen import widen

        before = {name: (layer.in_channels, layer.out_channels) for name, layer in graph.weight_layers.items()}
        changed = widen(graph, self.plan(graph), ctx.seed)
        rows = tuple(
            (name, layer.type, f"{before[name][0]} → {layer.in_channels}", f"{before[name][1]} → {layer.out_channels}")
            for name, layer in graph.weight_layers.items()
        )
        table = TextTable(("layer", "type", "inputs", "outputs"), rows)
        return Change(f"{len(changed)} layers rebuilt", (table,), {"layers": changed}, tuple(changed))
