"""The hooks a plugin may implement.

A plugin is a module with functions of these names, each marked with ``@q2.plugins.hookimpl``. It is found through the
entry-point group ``q2`` or through ``[plugins] modules`` in a run file. A hook that hands over things returns a mapping
from name to the thing, or to ``"package.module:attribute"``, which is imported only when a run needs it. What a hook
that is told of an event raises is reported once, with its place, and ends no run. ``q2_api = "1"`` in the module says
for which version of the plugin interface it is written: see `q2.plugins.api`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

import pluggy

from q2.deprecation import deprecation

__all__ = ["OFFERS", "Trial", "hookimpl", "hookspec"]

hookspec = pluggy.HookspecMarker("q2")
hookimpl = pluggy.HookimplMarker("q2")

OFFERS: Mapping[str, str] = {
    "q2_passes": "pass",
    "q2_quantizers": "quantizer",
    "q2_denoisers": "denoiser",
    "q2_exporters": "exporter",
    "q2_metrics": "metric",
    "q2_strategies": "strategy",
    "q2_engines": "engine",
}
"""The hooks that hand over things, and what messages call one of them."""


class Trial(Protocol):
    """What a hook may read of a trial, which is a `q2.search.trials.trial.Trial`."""

    @property
    def recipe(self) -> Mapping[str, str]:
        """Weight layer to option, as text."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was measured, by the metric's name."""

    @property
    def fidelity(self) -> str:
        """How closely it was measured."""

    @property
    def number(self) -> int | None:
        """The search's own count."""

    @property
    def state(self) -> Literal["complete", "failed"]:
        """Whether it has failed."""

    @property
    def id(self) -> str:
        """16 hex digits: what was asked, not what came out."""

    @property
    def label(self) -> str:
        """What messages and tables call it."""


@hookspec
def q2_passes() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over passes: name -> `AnalysisPass` or `TransformPass` class."""


@hookspec
def q2_quantizers() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over quantizers: name -> `Quantizer` class."""


@hookspec
def q2_denoisers() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over denoisers: name -> `Denoiser` class."""


@hookspec
def q2_exporters() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over exporters: name -> `Exporter` class."""


@hookspec
def q2_metrics() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over metrics: name -> `Metric` class."""


@hookspec
def q2_strategies() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over search strategies: name -> `Strategy` class."""


@hookspec
def q2_engines() -> Mapping[str, str | type]:  # type: ignore[empty-body]
    """Hand over engines, where trials run: name -> `Engine` class."""


@hookspec
def q2_before_pass(name: str, graph: object) -> None:
    """Called before the pass `name` runs over `graph`, a `q2.graph.Graph`."""


@hookspec
def q2_after_pass(name: str, graph: object, report: object, seconds: float) -> None:
    """Called after the pass `name` ran over the `q2.graph.Graph`, with its `q2.passes.Report` and how long it took."""


_WORTH = deprecation(
    "the argument 'worth' of q2_after_trial",
    removed="0.3.0",
    instead="call it 'value', the target's value of the trial",
)


@hookspec(warn_on_impl_args={"worth": _WORTH})
def q2_after_trial(trial: Trial, value: float | None, folder: Path, worth: float | None) -> None:
    """Called after a trial of the search in `folder`; `value` is the target's value of it, None where it has failed.

    `worth` is the old name of `value`.
    """


@hookspec
def q2_after_epoch(epoch: int, scores: Mapping[str, float], folder: Path) -> None:
    """Called after an epoch, from 1, of the training in `folder`, with its losses and the accuracy on validation."""
