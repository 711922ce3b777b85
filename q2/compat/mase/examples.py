"""The passes that the walk-throughs write themselves, as worked examples over q2's."""

from typing import Any

from torch import Tensor

from q2.compat.mase.graph import MaseGraph, PassArgs, Result
from q2.errors import ConfigError
from q2.passes import PassContext
from q2.passes.analysis.flops import batch_of, node_flops
from q2.passes.manager import run_passes
from q2.passes.transform.channel_width import ChannelConfig, ChannelWidth

__all__ = ["count_bitops", "flop_bitwise_pass", "redefine_linear_transform_pass"]


def count_bitops(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Return the BitOPs of every node and ``total_bits``, for the batch that the graph was traced with.

    A layer costs MACs · width of weights · width of inputs. The walk-through's count adds 524,288 for the batch norm
    of jsc-tiny (8 · 16 elements · 4 · 32 · 32), and for its ReLUs, which multiply nothing. Norms are in ``other_bits``.
    """
    found = node_flops(graph.graph, PassContext())
    counted = {each.node: each.bitops for each in found if each.counted}
    others = sum(each.bitops for each in found if not each.counted)
    return graph, {"nodes": counted, "total_bits": sum(counted.values()), "other_bits": others}


def flop_bitwise_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Return ``FLOP`` (multiply-accumulates) and ``Bit-op`` for the input ``pass_args["dummy_in"]``.

    The walk-through takes the shape of a convolution's weight for its input's, and leaves Linear layers out of the
    bits; here both are of every layer and product, at the widths in place.
    """
    dummy = (pass_args or {}).get("dummy_in")
    if isinstance(dummy, Tensor):
        name = next(iter(graph.graph.example_inputs))
        graph.retrace({name: dummy})
    found = [each for each in node_flops(graph.graph, PassContext()) if each.counted]
    bits = sum(each.bitops for each in found)
    return graph, {"FLOP": sum(each.macs for each in found), "Bit-op": bits, "batch": batch_of(graph.graph)}


def redefine_linear_transform_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Multiply the output channels of layers: node name to ``{"config": {"channel_multiplier": 2}}``, with a default.

    The arguments are not changed. MASE's tutorial also widens the last layer, and with it the number of classes, and
    passes a bias as a flag. Here the former is an error, and layers keep their bias. Raises `ConfigError` without a
    default.
    """
    given = dict((pass_args or {}).get("config", pass_args or {}))
    default = given.pop("default", None)
    if default is None:
        raise ConfigError("default value must be provided.")
    rules = {key: _config(rule) for key, rule in given.items() if key != "by"}
    step = ChannelWidth("name", _config(default), rules)
    (result,) = run_passes(graph.graph, [step])
    graph.retrace(graph.graph.example_inputs)
    return graph, dict(result.report.data)


def _config(rule: Any) -> ChannelConfig:
    return ChannelConfig(float(rule.get("config", {}).get("channel_multiplier", 1)))
