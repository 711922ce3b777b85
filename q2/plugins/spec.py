"""The hooks a plugin may implement. Hook specifications and nothing else.

A plugin is a module with functions of these names, each marked with ``@q2.plugins.hookimpl``. It is found through the
entry-point group ``q2`` or through ``[plugins] modules`` in a run file. A hook that hands over things returns a mapping
from name to the thing, or to ``"package.module:attribute"``, which is imported only when a run needs it. What a hook
that is told of an event raises is reported once, with its place, and ends no run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from q2.denoisers import Denoiser
    from q2.exporters import Exporter
    from q2.graph import Graph
    from q2.passes import Pass, Report
    from q2.quant import Quantizer
    from q2.search.engines.base import Engine
    from q2.search.metrics.base import Metric
    from q2.search.strategies.base import Strategy
    from q2.search.trials.trial import Trial

__all__ = ["hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("q2")
hookimpl = pluggy.HookimplMarker("q2")


@hookspec
def q2_passes() -> "Mapping[str, str | type[Pass]]":  # type: ignore[empty-body]
    """Hand over passes: name -> `AnalysisPass` or `TransformPass` class."""


@hookspec
def q2_quantizers() -> "Mapping[str, str | type[Quantizer]]":  # type: ignore[empty-body]
    """Hand over quantizers: name -> `Quantizer` class."""


@hookspec
def q2_denoisers() -> "Mapping[str, str | type[Denoiser]]":  # type: ignore[empty-body]
    """Hand over denoisers: name -> `Denoiser` class."""


@hookspec
def q2_exporters() -> "Mapping[str, str | type[Exporter]]":  # type: ignore[empty-body]
    """Hand over exporters: name -> `Exporter` class."""


@hookspec
def q2_metrics() -> "Mapping[str, str | type[Metric]]":  # type: ignore[empty-body]
    """Hand over metrics: name -> `Metric` class."""


@hookspec
def q2_strategies() -> "Mapping[str, str | type[Strategy]]":  # type: ignore[empty-body]
    """Hand over search strategies: name -> `Strategy` class."""


@hookspec
def q2_engines() -> "Mapping[str, str | type[Engine]]":  # type: ignore[empty-body]
    """Hand over engines, where trials run: name -> `Engine` class."""


@hookspec
def q2_before_pass(name: str, graph: "Graph") -> None:
    """Called before the pass `name` runs over `graph`."""


@hookspec
def q2_after_pass(name: str, graph: "Graph", report: "Report", seconds: float) -> None:
    """Called after the pass `name` ran over `graph`, with what it reports and how long it took."""


@hookspec
def q2_after_trial(trial: "Trial", worth: float | None, folder: Path) -> None:
    """Called after a trial of the search in `folder`, with what the target makes of it; None where it has failed."""
