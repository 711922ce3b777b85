"""Conformance suites that a plugin's own tests inherit, one for every kind of plugin; they need pytest.

>>> from q2.search.strategies.random import Random
>>> class TestRandom(StrategySuite):
...     strategy = Random()
...     random = True
"""

import sys
from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.quant.check import check_quantizer
    from q2.testing.denoisers import DenoiserSuite
    from q2.testing.engines import EngineSuite
    from q2.testing.exporters import ExporterSuite
    from q2.testing.metrics import MetricSuite
    from q2.testing.passes import PassSuite
    from q2.testing.problems import tiny_graph, tiny_model, tiny_problem, trial_of
    from q2.testing.quantizers import QuantizerSuite
    from q2.testing.strategies import StrategySuite
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "DenoiserSuite",
    "EngineSuite",
    "ExporterSuite",
    "MetricSuite",
    "PassSuite",
    "QuantizerSuite",
    "StrategySuite",
    "check_quantizer",
    "tiny_graph",
    "tiny_model",
    "tiny_problem",
    "trial_of",
]

_SUITES = ("denoisers", "engines", "exporters", "metrics", "options", "passes", "quantizers", "strategies")

if "pytest" in sys.modules:  # so that a failing assertion of a suite shows its values
    sys.modules["pytest"].register_assert_rewrite(*(f"{__name__}.{suite}" for suite in _SUITES))
