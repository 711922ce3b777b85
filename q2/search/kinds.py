"""What plugins offer to a search: metrics, strategies and engines; nothing heavy is imported for their names."""

from typing import TYPE_CHECKING

from q2.plugins import Kind

if TYPE_CHECKING:
    from q2.search.engines.base import Engine
    from q2.search.metrics.base import Metric
    from q2.search.strategies.base import Strategy

__all__ = ["ENGINES", "METRICS", "STRATEGIES"]

METRICS: "Kind[Metric]" = Kind("q2_metrics", "q2.search.metrics.base:Metric")
"""The metrics that a target or ``[search.evaluation]`` can name."""
STRATEGIES: "Kind[Strategy]" = Kind("q2_strategies", "q2.search.strategies.base:Strategy")
"""The strategies of ``q2 search``."""
ENGINES: "Kind[Engine]" = Kind("q2_engines", "q2.search.engines.base:Engine")
"""The engines of ``q2 search``."""
