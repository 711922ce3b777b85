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
from q2.passes.building import QUANTIZE, passes_from, passes_of, with_pipeline
from q2.passes.instruments import Dump, Instrument, PrintAfter
from q2.passes.manager import PassManager, PassResult, is_transform, run_passes
from q2.passes.pipeline import pipeline_text
from q2.passes.timing import Timing

__all__ = [
    "QUANTIZE",
    "AnalysisPass",
    "Change",
    "Dump",
    "Instrument",
    "Pass",
    "PassContext",
    "PassManager",
    "PassResult",
    "PrintAfter",
    "Report",
    "Step",
    "TextTable",
    "Timing",
    "TransformPass",
    "at_layer",
    "is_transform",
    "passes_from",
    "passes_of",
    "pipeline_text",
    "run_passes",
    "select",
    "weight_of",
    "with_pipeline",
]
