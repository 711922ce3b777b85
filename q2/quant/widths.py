"""Widths of activations, as run files and saved folders say them."""

from q2.errors import ConfigError

__all__ = ["FULL", "bits_of"]

FULL = 16
"""Bits of an activation that is not quantized."""


def bits_of(value: object, place: str) -> int:
    """Return bits of an activation as a number, 16 for ``"none"``. Raises `ConfigError`, with the `place`, for others.

    >>> bits_of(6, "bits"), bits_of("none", "bits")
    (6, 16)
    """
    if isinstance(value, str) and value.lower() in ("none", "na"):
        return FULL
    if isinstance(value, bool) or not isinstance(value, int) or value not in (4, 5, 6, 7, 8, FULL):
        raise ConfigError(f"{place}: should be 4 to 8, or 'none', not {value!r}")
    return value
