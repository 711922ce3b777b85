"""Options: a quantizer at a width, as people write it in a recipe or a rule (``kmeans-c-4``, ``none``)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from q2.errors import OptionError, there_are

__all__ = ["MAX_WIDTH", "NONE", "Option"]

MAX_WIDTH = 8
NONE = "none"


@dataclass(frozen=True, order=True)
class Option:
    """A quantizer at a width of 1 to 8 bits, or ``none`` (`bits` is 0): the weight stays as it is.

    Raises `OptionError` for a width outside 1 to 8.

    >>> str(Option("kmeans-c", 4))
    'kmeans-c-4'
    """

    quantizer: str
    bits: int

    def __post_init__(self) -> None:
        if self.quantizer == NONE and self.bits != 0:
            raise OptionError(f"'none' takes no width, found '{self}'")
        if self.quantizer != NONE and not 1 <= self.bits <= MAX_WIDTH:
            raise OptionError(f"width {self.bits} of '{self.quantizer}-{self.bits}' is outside 1 to {MAX_WIDTH}")

    def __str__(self) -> str:
        return NONE if self.quantizer == NONE and self.bits == 0 else f"{self.quantizer}-{self.bits}"

    @property
    def is_none(self) -> bool:
        """Whether the weight stays as it is."""
        return self.quantizer == NONE

    @classmethod
    def parse(cls, text: str, known: Iterable[str] | None = None) -> "Option":
        """Read an option; ``none`` and ``NA`` read in any case, and mean the same.

        `known` are the quantizers there are; without it any name will do. Raises `OptionError` for another format, a
        width outside 1 to 8, and a quantizer that is not among `known`.

        >>> Option.parse("kmeans-a-3")
        Option(quantizer='kmeans-a', bits=3)
        >>> Option.parse("NA").is_none
        True
        """
        plain = text.strip()
        if plain.lower() in (NONE, "na"):
            return cls(NONE, 0)
        match = re.fullmatch(r"([A-Za-z_][\w.-]*)-([0-9]{1,9})", plain, re.ASCII)
        if match is None:
            raise OptionError(
                f"{text!r} is no option, expected a quantizer and a width such as 'kmeans-c-4', or 'none'"
            )
        quantizer, bits = match[1], int(match[2])
        names = None if known is None else list(known)
        if names is not None and quantizer not in names:
            raise OptionError(f"no quantizer named {quantizer!r} in {plain!r}{there_are(quantizer, names)}")
        return cls(quantizer, bits)
