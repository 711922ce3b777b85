"""A search space of lists: for every setting of every layer the values that it may take, as a run file says them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from q2.config import Table
from q2.errors import ConfigError, did_you_mean
from q2.passes.transform.rules import matching
from q2.search.space import Space, SpaceChoice
from q2.settings import SpaceSettings

__all__ = ["ListSpace", "Value"]

Value = int | float | str | bool


@dataclass(frozen=True)
class ListSpace(Space):
    """A choice for every setting with a list, called ``layer:setting``; its options are the values as JSON.

    `fixed` has the settings with one value alone, which are no choice. A recipe maps choice to value, both as text.
    """

    fixed: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @classmethod
    def of_lists(cls, settings: SpaceSettings, layers: Mapping[str, str], weights: Mapping[str, int]) -> "ListSpace":
        """Make the space of a run file's lists: `layers` maps each layer to its type, `weights` to how many it has.

        The first rule that matches a layer wins; `default` is for those that none does. Raises `ConfigError` for a
        rule that matches no layer, and for a list that is empty or says a value twice.
        """
        if not settings.lists:
            raise ConfigError("lists: a search needs some, as in [search.space.lists.linear]")
        owners: dict[str, str] = {}
        for key, table in settings.lists.items():
            for name, values in table.items():
                texts = [json.dumps(value) for value in values]
                if not texts or len(set(texts)) < len(texts):
                    raise ConfigError(f"lists.{key}.{name}: expected one or more values, all different, not {texts}")
            if key != "default":
                owners = dict.fromkeys(matching(settings.by, key, layers, options=["default"]), key) | owners
        default = {name: "default" for name in layers if name not in owners and "default" in settings.lists}
        owners |= default
        choices: list[SpaceChoice] = []
        fixed: dict[str, dict[str, Value]] = {}
        for layer in layers:
            for setting, values in settings.lists[owners[layer]].items() if layer in owners else ():
                fixed.setdefault(layer, {})
                if len(values) == 1:
                    fixed[layer][setting] = values[0]
                else:
                    texts = [json.dumps(value) for value in values]
                    choices.append(SpaceChoice((f"{layer}:{setting}",), tuple(texts), weights.get(layer, 0)))
        return cls(tuple(choices), fixed=fixed)

    def configs(self, recipe: Mapping[str, str]) -> dict[str, Table]:
        """Return the settings of every layer by a recipe: layer to setting to value.

        Raises `ConfigError` for a choice that the space does not have.

        >>> space = ListSpace.of_lists(SpaceSettings(lists={"linear": {"width": (4, 8)}}), {"head": "Linear"}, {})
        >>> space.configs({"head:width": "8"})
        {'head': {'width': 8}}
        """
        found: dict[str, Table] = {layer: dict(settings) for layer, settings in self.fixed.items()}
        for name, text in recipe.items():
            layer, _, setting = name.rpartition(":")
            if name not in self.layers:
                raise ConfigError(f"{name!r}: no such choice in the search space{did_you_mean(name, self.layers)}")
            found.setdefault(layer, {})[setting] = json.loads(text)
        return found

    @cached_property
    def _levels(self) -> list[list[list[int]]]:
        """Per choice: every option by itself, numbers the least first."""

        def rank(text: str) -> tuple[bool, float]:
            value = json.loads(text)
            number = isinstance(value, int | float)
            return not number, float(value) if number else 0.0

        return [
            [[place] for place in sorted(range(len(choice.options)), key=lambda i, c=choice: rank(c.options[i]))]  # type: ignore[misc]
            for choice in self.choices
        ]
