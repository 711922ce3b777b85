"""From a search to the predictor: the search's choices, sizes and errors as the space that the predictor sees."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from q2.errors import PredictorError
from q2.graph import Graph
from q2.search import space as search
from q2.search.evaluation.costs import Costs
from q2.search.predictor.dataset import Floats, Ints
from q2.search.predictor.provenance import Provenance
from q2.search.predictor.space import NodeSpace

__all__ = ["Bridge"]


@dataclass(frozen=True, eq=False)
class Bridge:
    """A search's space, and the predictor's of the same choices; options are counted as in `search.Space.options`.

    `place` (choices,) is the number in the search of every choice of the predictor.
    """

    found: search.Space
    space: NodeSpace
    place: Ints

    @classmethod
    def of(
        cls,
        graph: Graph,
        found: search.Space,
        costs: Costs,
        errors: Floats | None = None,
        made: Provenance | None = None,
    ) -> Bridge:
        """Make the predictor's space of a denoiser's graph, before it is quantized, and of what its options cost.

        Options that a choice may not take are in the space, since trials may hold them, but are not `allowed`. Tied
        layers are as in the search; a node shows the size and error of one of them. `errors` (choices, options) take
        the place of the bank's. `made` says what trials the space is of. Raises PredictorError.
        """
        flow = graph.flow()
        weights = sum(choice.weights for choice in graph.choices.values())
        bits = np.rint(costs.tables["avg_bits"] * weights)
        errors = costs.finite().tables.get(costs.error) if errors is None else errors
        sizes: dict[str, dict[str, float]] = {}
        wrong: dict[str, dict[str, float]] = {}
        allowed, counts, ties = {}, {}, []
        for i, choice in enumerate(found.choices):
            copies = len(choice.layers)
            for layer in choice.layers:
                sizes[layer] = dict(zip(found.options, bits[i] / copies, strict=True))
                counts[layer], allowed[layer] = choice.weights, choice.options
                if errors is not None:
                    wrong[layer] = dict(zip(found.options, errors[i] / copies, strict=True))
            if copies > 1:
                ties.append(tuple(dict.fromkeys(flow.nodes[layer]["layer"] for layer in choice.layers)))
        space = NodeSpace.from_flow(
            flow,
            graph.units(ties=bool(ties)),
            found.options,
            sizes=sizes,
            weights=counts,
            errors=wrong if errors is not None else None,
            ties=ties,
            allowed=allowed,
        )
        place = np.array([found.layers[name] for name in space.choices], np.int64)
        sums = {name: np.asarray(table[place], np.float64) for name, table in costs.finite().tables.items()}
        return cls(found, replace(space, sums=sums, constants=dict(costs.constants), made=made or Provenance()), place)

    def encode(self, recipes: Iterable[Mapping[str, str]], labels: Iterable[str] | None = None) -> Ints:
        """Return option numbers (recipes, choices) of the predictor's; `labels` name the recipes in messages.

        Options need not be allowed. Raises PredictorError for a layer that is missing or of another denoiser.
        """
        names = None if labels is None else list(labels)
        try:
            return self.space.encode(recipes)
        except PredictorError as error:
            if names is None:
                raise
            raise PredictorError(re.sub(r"^trial (\d+)", lambda found: names[int(found[1])], str(error))) from None

    def recipe(self, chosen: Ints) -> dict[str, str]:
        """Return the recipe of option numbers (choices,) of the predictor's."""
        options = {self.place[i]: self.space.options[option] for i, option in enumerate(chosen)}
        return {layer: options[choice] for layer, choice in self.found.layers.items()}

    def table(self, costs: Costs, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """Return what every option of the predictor's choices adds to a metric that is a sum (choices, options)."""
        return np.asarray(costs.tables[name][self.place], np.float64)
