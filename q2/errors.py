"""The errors q2 raises for its users: one line each, naming the offender and the nearest valid thing."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

__all__ = [
    "BankError",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "GuardError",
    "OptionError",
    "PassError",
    "PassFailure",
    "PluginError",
    "PredictorError",
    "Q2Error",
    "RecipeError",
    "SensitivityError",
    "TargetError",
    "TraceError",
    "TrialError",
    "did_you_mean",
    "there_are",
]

_LONGEST = 2000


class Q2Error(Exception):
    r"""A mistake the user can mend; the message is one line. The command line exits with 2.

    What a message repeats of a file may be anything: control characters are written as escapes, and a message that is
    longer than 2,000 characters is cut.

    >>> str(Q2Error("no option '\x1b[31m' in run.toml"))
    "no option '\\x1b[31m' in run.toml"
    """

    def __str__(self) -> str:
        text = super().__str__()
        if not text.isprintable():
            text = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class ConfigError(Q2Error):
    """A run file, an override or an option that q2 cannot take."""


class OptionError(Q2Error):
    """A quantizer or a width that does not exist."""


class RecipeError(Q2Error):
    """A recipe that is malformed or belongs to another denoiser."""


class BankError(Q2Error):
    """A bank that is missing, incomplete, damaged or for other weights."""


class CalibrationError(Q2Error):
    """Rows of layers' inputs that are missing, incomplete, damaged, not finite or for other weights."""


class CheckpointError(Q2Error):
    """A checkpoint that is missing, incomplete or not a pipeline."""


class PluginError(Q2Error):
    """A plugin that is broken, unknown or clashes with another."""


class PredictorError(Q2Error):
    """Trials, graphs or a saved predictor that do not fit together."""


class SensitivityError(Q2Error):
    """Measured sensitivities that cannot be read, or that are of another denoiser or measured otherwise."""


class TraceError(Q2Error):
    """A model that cannot be traced, or a graph that no longer equals its model."""


class TargetError(Q2Error):
    """A target that cannot be read, or that has no finite value for a trial."""


class TrialError(Q2Error):
    """A trial that is malformed, or a trial store that is damaged or belongs to another run."""


class GuardError(TraceError):
    """A call that leaves the path on which the graph was traced."""


@dataclass(frozen=True)
class PassFailure:
    """Where a pass failed: its title, its number in the run, the layer (empty if none is known), and why."""

    title: str
    number: int
    layer: str
    error: str


class PassError(Q2Error):
    """A pass that failed; says which, where, and what ran before it. `ours` where the cause is no user's mistake."""

    def __init__(self, message: str, *, ours: bool = False, failure: PassFailure | None = None) -> None:
        super().__init__(message)
        self.ours = ours
        self.failure = failure

    @property
    def is_crash(self) -> bool:
        """Whether a pass broke, or broke its contract, rather than told of a user's mistake."""
        return self.failure is not None and (self.ours or isinstance(self.__cause__, PluginError))

    def noting(self, note: str) -> "PassError":
        """Return the same error with a note at the end of its line; raise it ``from`` this one's cause."""
        return PassError(f"{self}; {note}", ours=self.ours, failure=self.failure)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known name nearest to `name`, or an empty string.

    >>> did_you_mean("quantise", ["stats", "quantize"])
    "; did you mean 'quantize'?"
    >>> did_you_mean("zebra", ["stats"])
    ''
    """
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def there_are(name: str, known: Iterable[str], most: int = 12) -> str:
    """Return `did_you_mean`, or where nothing is near what there is, the first of many, in brackets.

    >>> there_are("quantise", ["stats", "quantize"]), there_are("slurm", ["local", "ray"])
    ("; did you mean 'quantize'?", ' (there are: local, ray)')
    """
    names = list(dict.fromkeys(known))
    more = ", …" if len(names) > most else ""
    listed = f" (there are: {', '.join(names[:most])}{more})" if names else " (there are none)"
    return did_you_mean(name, names) or listed


def why(error: Exception) -> str:
    """Return what is wrong with a file, for a line that names it already.

    >>> why(FileNotFoundError(2, "No such file or directory", "recipe.toml"))
    'No such file or directory'
    """
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
