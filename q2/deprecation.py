"""Deprecations: what still works for plugins, and until which version of q2."""

import warnings

__all__ = ["Q2DeprecationWarning", "deprecated", "deprecation"]


class Q2DeprecationWarning(DeprecationWarning):
    """What a later version of q2 refuses: pytest shows it to a plugin's author, and Python hides it from users."""


def deprecated(what: str, *, removed: str, instead: str) -> None:
    """Warn that `what` is refused from version `removed` of q2 on, and what to write `instead`.

    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     deprecated("the option 'old' of 'mine'", removed="0.3.0", instead="write 'new'")
    >>> str(said[0].message)
    "the option 'old' of 'mine' is deprecated and will be refused by q2 0.3.0: write 'new'"
    """
    warnings.warn(deprecation(what, removed=removed, instead=instead), stacklevel=3)


def deprecation(what: str, *, removed: str, instead: str) -> Q2DeprecationWarning:
    """Return the warning that `deprecated` gives, for what warns by itself, such as pluggy of a hook's argument."""
    return Q2DeprecationWarning(f"{what} is deprecated and will be refused by q2 {removed}: {instead}")
