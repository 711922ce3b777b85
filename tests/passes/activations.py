"""How the tests of activations run the pass, and what they see of a graph."""

from typing import Any

from torch import Tensor

import q2
from q2.config import Key
from q2.graph import Graph
from q2.passes.transform.quantize_activations import QuantizeActivations


def where(key: Key) -> str:
    return ".".join(("run.toml: passes.quantize-activations", *key))


def step(**table: Any) -> QuantizeActivations:
    return QuantizeActivations.from_table(table, where)


def act(graph: Graph, **table: Any) -> Any:
    return q2.run_passes(graph, [step(**table)], verify_each=True)[0].report


def sample(output: Any) -> Tensor:
    found = output if isinstance(output, Tensor) else output[0]
    assert isinstance(found, Tensor)
    return found
