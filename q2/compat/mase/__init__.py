"""What MASE's walk-throughs call, over q2's models and passes: their code runs with the import changed.

Passes take a `MaseGraph` and a table of arguments, and return the graph and a table, as MASE's do; reports are printed.
A `MaseGraph` works on a copy of the model, so that nothing a pass does reaches the original.
"""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.compat.mase.analysis import (
        calculate_avg_bits_mg_analysis_pass,
        profile_statistics_analysis_pass,
        report_graph_analysis_pass,
        report_node_meta_param_analysis_pass,
        summarize_quantization_analysis_pass,
    )
    from q2.compat.mase.data import InputGenerator, MaseDataModule
    from q2.compat.mase.examples import count_bitops, flop_bitwise_pass, redefine_linear_transform_pass
    from q2.compat.mase.graph import (
        MaseGraph,
        add_common_metadata_analysis_pass,
        add_software_metadata_analysis_pass,
        init_metadata_analysis_pass,
    )
    from q2.compat.mase.models import MaseModelInfo, get_model, get_model_info, load_model
    from q2.compat.mase.run_file import imported
    from q2.compat.mase.transforms import quantize_transform_pass
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = [
    "InputGenerator",
    "MaseDataModule",
    "MaseGraph",
    "MaseModelInfo",
    "add_common_metadata_analysis_pass",
    "add_software_metadata_analysis_pass",
    "calculate_avg_bits_mg_analysis_pass",
    "count_bitops",
    "flop_bitwise_pass",
    "get_model",
    "get_model_info",
    "imported",
    "init_metadata_analysis_pass",
    "load_model",
    "profile_statistics_analysis_pass",
    "quantize_transform_pass",
    "redefine_linear_transform_pass",
    "report_graph_analysis_pass",
    "report_node_meta_param_analysis_pass",
    "summarize_quantization_analysis_pass",
]
