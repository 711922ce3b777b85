"""Conformance suites that a plugin's own tests inherit; they need pytest.

>>> from q2.search.strategies.random import Random
>>> class TestRandom(StrategySuite):
...     strategy = Random()
...     random = True
"""

from q2.quant.check import check_quantizer
from q2.testing.problems import tiny_graph, tiny_problem, trial_of
from q2.testing.strategies import StrategySuite

__all__ = ["StrategySuite", "check_quantizer", "tiny_graph", "tiny_problem", "trial_of"]
