"""A space as Optuna's parameters: one for each choice with several options, or unit with several variants."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from q2.search.space import Space

__all__ = ["Parameters", "key_of"]


def key_of(params: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a key that identifies a recipe by its parameters.

    >>> key_of({"b": "uaq-4", "a": "uaq-3"})
    ('a=uaq-3', 'b=uaq-4')
    """
    return tuple(f"{name}={value}" for name, value in sorted(params.items()))


class Parameters:
    """Converts recipes to parameters and back. A parameter's value is an option, or the options of a unit as text.

    With `numeric` it is the index of the option or variant instead, for samplers that support only numbers.
    """

    def __init__(self, space: Space, *, numeric: bool) -> None:
        self.space, self.numeric = space, numeric
        self.groups = [group for group in space.groups if len(group.variants) > 1]
        self.values: dict[str, list[Any]] = {}
        for group in self.groups:
            options = [space.choices[choice].options for choice in group.choices]
            texts = [" ".join(own[i] for own, i in zip(options, row, strict=True)) for row in group.variants]
            self.values[group.name] = list(range(len(texts))) if numeric else texts
        self._first = np.zeros(len(space), np.intp)
        for group in space.groups:
            self._first[list(group.choices)] = group.variants[0]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """The distribution of every parameter, by name."""
        return {name: self._distribution(values) for name, values in self.values.items()}

    def recipe(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Return the recipe that parameters describe."""
        indices = self._first.copy()
        for group in self.groups:
            indices[list(group.choices)] = group.variants[self.values[group.name].index(params[group.name])]
        return self.space.decode(indices)

    def key(self, recipe: Mapping[str, str]) -> tuple[str, ...]:
        """Return the `key_of` a recipe, which maps layers to options."""
        names = self.space.choices
        return key_of({g.name: " ".join(recipe[names[choice].name] for choice in g.choices) for g in self.groups})

    def untried(self, taken: Collection[tuple[str, ...]], rng: np.random.Generator) -> dict[str, Any]:
        """Return the parameters of a recipe whose key is not in `taken`: a random one, or the next one after it."""
        digits = {name: int(rng.integers(len(values))) for name, values in self.values.items()}
        while True:
            params = {name: self.values[name][digit] for name, digit in digits.items()}
            if key_of(params) not in taken:
                return params
            for name, digit in digits.items():
                digits[name] = (digit + 1) % len(self.values[name])
                if digits[name]:
                    break

    def _distribution(self, values: list[Any]) -> BaseDistribution:
        return IntDistribution(0, len(values) - 1) if self.numeric else CategoricalDistribution(values)
