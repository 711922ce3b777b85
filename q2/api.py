"""What a notebook needs; `import q2` re-exports it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from q2.config import DEFAULT, RunFile
from q2.denoisers import Denoiser
from q2.denoisers import load as denoiser
from q2.graph import Graph, trace
from q2.passes import Pass, PassContext, PassManager, PassResult
from q2.plugins import Plugins
from q2.progress import Progress, silent
from q2.quant import Recipe
from q2.quant.bank import Bank
from q2.session.transform import Outcome, prepare, run_folder
from q2.session.transform import transform as _transform

__all__ = ["Denoiser", "Graph", "Recipe", "denoiser", "run_passes", "trace", "transform"]


def run_passes(
    graph: Graph,
    passes: Iterable[Pass],
    *,
    denoiser: Denoiser | None = None,
    seed: int = 0,
    verify_each: bool = False,
    plugins: Plugins | None = None,
    progress: Progress = silent,
    prec: int = 16,
    bank: Bank | None = None,
) -> list[PassResult]:
    """Run `passes` over `graph` in order and return their results. Raises `Q2Error` subclasses, one line each.

    `prec` is how many bits a centroid, a scale and a zero point take; `bank` has options that need no fitting.

    >>> import q2
    >>> from q2.passes.analysis.size import Size
    >>> digits = q2.denoiser("digits-dit")
    >>> graph = q2.trace(digits.model, digits.example_inputs())
    >>> [result.report.data["avg_bits"] for result in q2.run_passes(graph, [Size()])]
    [16.0]
    """
    ctx = PassContext(plugins or Plugins(), denoiser, seed, progress, prec, bank)
    return PassManager([(step.name, step) for step in passes], ctx, verify_each).run(graph)


def transform(config: str = DEFAULT, overrides: Sequence[str] = (), out: str | Path | None = None) -> Outcome:
    """Run a run file as ``q2 transform`` does, silently; `overrides` are ``a.b=c``. Raises `Q2Error`."""
    plan = prepare(RunFile.load(config, overrides))
    return _transform(plan, run_folder(Path(out) if out else None, plan.title))
