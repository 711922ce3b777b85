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
from q2.passes.manager import QUANTIZE, PassManager, PassResult, is_transform, passes_of, run_passes

__all__ = [
    "QUANTIZE",
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
    "is_transform",
    "passes_of",
    "run_passes",
    "select",
    "weight_of",
]
