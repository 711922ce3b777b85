"""MASE's analysis passes: arguments in, ``(graph, info)`` out, reports printed or written."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from q2.compat.mase.graph import MaseGraph, PassArgs, Result
from q2.errors import ConfigError, did_you_mean
from q2.files import write_text
from q2.graph.naming import node_op
from q2.passes import PassContext
from q2.passes.analysis.avg_bits import AvgBits
from q2.passes.analysis.graph_report import overview
from q2.passes.analysis.node_meta import drawn_nodes, node_rows
from q2.passes.analysis.profile import ProfileStatistics
from q2.passes.manager import run_passes
from q2.quant.simulated import Quantized

__all__ = [
    "calculate_avg_bits_mg_analysis_pass",
    "profile_statistics_analysis_pass",
    "report_graph_analysis_pass",
    "report_node_meta_param_analysis_pass",
    "summarize_quantization_analysis_pass",
]

_PROFILE = (
    "by", "target_weight_nodes", "target_activation_nodes", "weight_statistics", "activation_statistics",
    "input_generator", "num_samples",
)  # fmt: skip


def report_graph_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Print the fx graph, its nodes by operation and its layers, or write them to ``pass_args["file_name"]``."""
    text, counts, layers = overview(graph.graph)
    _say(text, (pass_args or {}).get("file_name"))
    return graph, {"network_overview": counts, "layer_types": layers}


def profile_statistics_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Gather statistics of weights, and of activations over the first `num_samples` samples of `input_generator`.

    The keys are those of q2's pass ``profile-statistics`` and ``input_generator``. Raises `ConfigError` for others.
    """
    given = dict(pass_args or {})
    for key in given:
        if key not in _PROFILE:
            raise ConfigError(f"{key}: unknown key{did_you_mean(key, _PROFILE)}")
    generator, count = given.pop("input_generator", None), int(given.get("num_samples", 32))
    for key in ("target_weight_nodes", "target_activation_nodes"):
        given[key] = tuple(given.get(key, ()))
    step = ProfileStatistics(**given)
    step.check(graph.graph, PassContext())
    calls = [graph.graph.example_inputs] if generator is None else _samples(generator, count)
    report = step.profile(graph.graph, calls)
    return graph, dict(report.data)


def _samples(generator: Iterable[Mapping[str, Tensor]], count: int) -> Iterator[dict[str, Tensor]]:
    """Yield batches of a generator until there are `count` samples; the last is cut."""
    left = count
    for batch in generator:
        if left <= 0:
            return
        cut = {name: tensor[:left] for name, tensor in batch.items()}
        left -= len(next(iter(cut.values())))
        yield cut


def report_node_meta_param_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Print the table of all nodes with their statistics, or write it to ``pass_args["save_path"]``.

    ``which`` may name ``software``; MASE's ``common`` and ``hardware`` columns do not exist in q2. Raises `ConfigError`
    for other names.
    """
    args = pass_args or {}
    which = tuple(args.get("which", ("software",)))
    if any(each not in ("all", "software") for each in which):
        raise ConfigError(f"which: q2 has the parameters of software alone, not {', '.join(which)}")
    rows = node_rows(graph.graph)
    _say(drawn_nodes(rows), args.get("save_path"))
    return graph, {"nodes": rows}


def calculate_avg_bits_mg_analysis_pass(graph: MaseGraph, pass_args: PassArgs = None) -> Result:
    """Return the average and total bits of weights (``w``), biases (``b``) and inputs (``in``), as they really are."""
    (result,) = run_passes(graph.graph, [AvgBits()])
    return graph, dict(result.report.data)


def summarize_quantization_analysis_pass(
    ori_graph: MaseGraph, graph: MaseGraph, pass_args: PassArgs = None, save_dir: str | Path | None = None
) -> Result:
    """Print the table of what has changed between two graphs; write it to `save_dir` too, if that is given."""
    from tabulate import tabulate

    groups: dict[tuple[str, str], list[bool]] = {}
    now = {node.name: node for node in graph.fx_graph.nodes}
    for node in ori_graph.fx_graph.nodes:
        op, kind, changed = node_op(ori_graph.model, node), node.name, node.name not in now
        if node.op == "call_module":
            before = ori_graph.model.get_submodule(str(node.target))
            kind = getattr(before, "exact_class", type(before)).__name__
            after = graph.model.get_submodule(str(now[node.name].target)) if not changed else before
            changed = (
                changed or str(before) != str(after) or isinstance(after, Quantized) > isinstance(before, Quantized)
            )
        groups.setdefault((kind, op), []).append(changed)
    rows = [(kind, op, len(g), sum(g), len(g) - sum(g)) for (kind, op), g in sorted(groups.items())]
    heads = ("Original type", "OP", "Total", "Changed", "Unchanged")
    text = tabulate(rows, headers=heads, tablefmt="orgtbl")
    _say(text, None)
    if save_dir is not None:
        write_text(Path(save_dir) / "summary.txt", f"{text}\n")
    return graph, {"table": [dict(zip(heads, row, strict=True)) for row in rows]}


def _say(text: str, file: str | Path | None) -> None:
    if file:
        write_text(Path(file), f"{text}\n")
    else:
        print(text)
