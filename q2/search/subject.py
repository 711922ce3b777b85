"""What recipes, labels and reduced spaces are for: a denoiser, its weights, and what options are fitted to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from q2.quant.recipe import Recipe

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """A denoiser by name, the fingerprint of its checkpoint, and the calibration of its bank; see `Recipe`.

    What is empty is not known; `calibration` is also empty where options are fitted to weights alone.

    >>> str(Subject("digits-dit", "5b5ebccb"))
    'digits-dit (5b5ebccb)'
    """

    denoiser: str = ""
    fingerprint: str = ""
    calibration: str = ""

    def __str__(self) -> str:
        return f"{self.denoiser} ({self.fingerprint})" if self.fingerprint else self.denoiser

    def recipe(self, layers: Mapping[str, str], avg_bits: float) -> Recipe:
        """Return the options of all layers as people keep them. Raises `RecipeError`."""
        return Recipe.of(layers, self.denoiser, self.fingerprint, avg_bits, self.calibration)

    def table(self) -> dict[str, str]:
        """Return what is known, as files have it."""
        return {key: value for key, value in asdict(self).items() if value}

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> Self:
        """Read what `table` gave, among other keys."""
        return cls(*(str(table.get(key, "")) for key in ("denoiser", "fingerprint", "calibration")))
