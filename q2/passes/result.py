"""The result of one pass of a run."""

from dataclasses import dataclass

from q2.passes.base import Pass, Report

__all__ = ["PassResult"]


@dataclass(frozen=True)
class PassResult:
    """One pass as it ran. `title` is its table in the run file; `reused` says that its facts were known already.

    `needed_by` is the title of the pass that required it, empty for one of the run's own.
    """

    title: str
    step: Pass
    report: Report
    seconds: float
    reused: bool = False
    needed_by: str = ""

    def __repr__(self) -> str:
        return f"{self.title}: {self.report.summary} ({self.seconds:.1f} s)"
