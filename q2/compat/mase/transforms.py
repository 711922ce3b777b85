"""MASE's quantize pass: rules by type, name or regex."""

from typing import Any

from q2.compat.mase.graph import MaseGraph, PassArgs, Result
from q2.config import dotted
from q2.passes.manager import run_passes
from q2.passes.transform.quantize import Quantize
from q2.quant.formatted import Formatted, unformat_layer

__all__ = ["quantize_rules", "quantize_transform_pass"]


def quantize_rules(table: dict[str, Any]) -> dict[str, Any]:
    """Return MASE's rules as q2's: a name of None or ``"NA"`` is ``none``.

    >>> quantize_rules({"by": "type", "default": {"config": {"name": None}}})
    {'by': 'type', 'default': {'config': {'name': 'none'}}}
    """
    found: dict[str, Any] = {}
    for key, rule in table.items():
        config = rule.get("config") if isinstance(rule, dict) else None
        if isinstance(config, dict) and str(config.get("name")).lower() in ("none", "na"):
            found[key] = {"config": {"name": "none"}}
        else:
            found[key] = rule
    return found


def quantize_transform_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Quantize the graph by rules; a layer that a pass before has quantized starts from full precision again.

    Raises `PassError`, `ConfigError` and `OptionError` for rules that make no sense.
    """
    for name, module in graph.modules.items():
        if isinstance(module, Formatted) and name in {str(node.target) for node in graph.fx_graph.nodes}:
            graph.graph.replace(name, unformat_layer(module))
    step = Quantize.from_table(quantize_rules(dict(pass_args or {})), dotted)
    (result,) = run_passes(graph.graph, [step])
    return graph, dict(result.report.data)
