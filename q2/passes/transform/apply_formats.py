"""Gives layers number formats, and says which layers of which type got some."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from q2.graph import Graph
from q2.passes.base import Change, TextTable, at_layer
from q2.passes.transform.formats import FormatConfig
from q2.quant.formats.base import Format
from q2.quant.formats.mx import Mx
from q2.quant.formatted import Formats, Formatted, format_layer, unformat_layer

__all__ = ["apply_formats"]

_CHANNELS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def apply_formats(graph: Graph, plan: Mapping[str, FormatConfig], before: Change) -> Change:
    """Replace the layers of a plan by formatted ones; return a report that adds them to what `before` says.

    The layers share their parameters with those that they replace. Raises `OptionError`, with the layer.
    """
    counts: Counter[tuple[str, str]] = Counter()
    kinds = {}
    for name, config in plan.items():
        with at_layer(name):
            module = graph.model.get_submodule(name)
            plain = unformat_layer(module)
            formats = _along_channels(plain, config.formats())
            graph.replace(name, format_layer(plain, formats))
            kind = module.exact_class if isinstance(module, Formatted) else type(module)
            counts[kind.__name__, str(formats)] += 1
            kinds[name] = str(formats)
    rows = tuple((kind, formats, count) for (kind, formats), count in sorted(counts.items()))
    table = TextTable(("type", "formats", "layers"), rows)
    options = before.changed
    summary = f"number formats in {len(plan)} layers" + (f", options in {len(options)}" if options else "")
    tables = (*(before.tables if options else ()), table)
    data = {**before.data, "changed": len(plan) + len(options), "formats": kinds}
    return Change(summary, tables, data, (*options, *plan), preserves=before.preserves)


def _along_channels(module: nn.Module, formats: Formats) -> Formats:
    """Let blocks of microscaling run along a convolution's input channels, which are its second dim."""
    if not isinstance(module, _CHANNELS):
        return formats
    return Formats(_along(formats.data_in), _along(formats.weight), formats.bias)


def _along(form: Format | None) -> Format | None:
    return replace(form, dim=1) if isinstance(form, Mx) else form
