"""Passes: the contract, the manager that runs them, and the built-in ones in `analysis` and `transform`."""

from q2.passes.base import (
    AnalysisPass,
    Change,
    Pass,
    PassContext,
    Report,
    Step,
    TextTable,
    TransformPass,
    at_layer,
    select,
    weight_of,
)
from q2.passes.manager import PassManager, PassResult, passes_of

__all__ = [
    "AnalysisPass",
    "Change",
    "Pass",
    "PassContext",
    "PassManager",
    "PassResult",
    "Report",
    "Step",
    "TextTable",
    "TransformPass",
    "at_layer",
    "passes_of",
    "select",
    "weight_of",
]
