"""The flow graph of a session's denoiser as a picture; no weights are loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from q2.errors import ConfigError
from q2.files import replacing
from q2.graph.flow.draw import check_block
from q2.graph.flow.draw import draw as draw_flow
from q2.passes import PassContext, PassManager, is_transform
from q2.passes.analysis.dag import Dag
from q2.session.report import writing
from q2.session.session import Session

__all__ = ["plot_dag"]

_KINDS: Mapping[str, Literal["svg", "png"]] = {".svg": "svg", ".png": "png"}


def plot_dag(session: Session, out: Path, block: str = "", scores: Mapping[str, float] | None = None) -> str:
    """Draw the denoiser into `out`, an .svg or .png, coloured by what the run's transforms say; return a line.

    With `scores` by flow node these give the colours. The denoiser is built on meta. Raises `Q2Error`.
    """
    if out.suffix not in _KINDS:
        raise ConfigError(f"--out {out}: expected a name that ends in .svg or .png")
    session = session.fork("meta")
    denoiser, graph = session.denoiser, session.graph
    try:
        check_block(graph.flow(), block)
    except ConfigError as error:
        raise ConfigError(f"--block {block}: {error}") from error
    if scores is None:
        data, line = _with_options(session, Dag(block, _KINDS[out.suffix]))
    else:
        unknown = next((name for name in scores if name not in graph.flow()), None)
        if unknown is not None:
            raise ConfigError(f"--labels: of another denoiser than {denoiser.label}: it has no layer {unknown!r}")
        title = f"{denoiser.label}: how sensitive its layers are"
        data = draw_flow(graph, graph.units(), title=title, block=block, scores=scores, kind=_KINDS[out.suffix])
        line = f"coloured by the sensitivity of {len(scores)} layers"
    with writing(out, "--out"), replacing(out) as beside:
        beside.write_bytes(data)
    return line


def _with_options(session: Session, dag: Dag) -> tuple[bytes, str]:
    """Run the transforms that need no weights, and return the picture with a line about it."""
    ctx = PassContext(session.plugins, session.denoiser, prec=session.settings.prec)
    passes = [(title, step) for title, step in session.passes if not session.needs_weights(step)]
    manager = PassManager([*passes, ("dag", dag)], ctx, only=lambda step: step is dag or is_transform(step))
    with session.at():
        manager.check(session.graph)
        report = manager.run(session.graph)[-1].report
    left = [title for title, step in session.passes if is_transform(step) and session.needs_weights(step)]
    line = report.summary.partition(" → ")[0]
    line += f"; left out, as weights on meta have no values: {', '.join(left)}" if left else ""
    return next(iter(report.files.values())), line
