"""One HTML file about one or several runs: verdict, front, trials, layers, samples, settings; needs no network."""

from typing import TYPE_CHECKING

from q2.lazy import lazy

if TYPE_CHECKING:
    from q2.report.folder import RunFolder
    from q2.report.page import write_report
else:
    __getattr__, __dir__ = lazy(__name__)

__all__ = ["RunFolder", "write_report"]
