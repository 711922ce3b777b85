"""Problems of least output error, one for every part of every weight layer, from rows on disk."""

from torch import Tensor

from q2.errors import CalibrationError
from q2.quant.calibration.gram import Piece, pieces
from q2.quant.calibration.problem import Problem
from q2.quant.calibration.rows import RowStore

__all__ = ["Problems"]


class Problems:
    """Makes the problem of a layer's weight, or of its part with a range of input channels, when it is asked for.

    The moments of the last group of layers are kept, as its layers follow one another.
    """

    def __init__(self, rows: RowStore) -> None:
        """Take the rows of a denoiser's layers."""
        self.rows = rows
        self._last: tuple[object, list[Piece]] = None, []

    def __call__(self, layer: str, channels: tuple[int, int] | None, weight: Tensor) -> Problem:
        """Return the problem of a part's `weight` (O, I, ...). Raises `CalibrationError` for a layer without rows."""
        key = self.rows.group(layer), channels, weight.shape[1:]
        if self._last[0] != key:
            found = self.rows.rows(layer)
            if found is None:
                raise CalibrationError("has no rows: it never ran while images were drawn; name other images or steps")
            scale = found.seen / (len(found.values) * found.images)
            self._last = key, pieces(found.values.to(weight.device), weight.shape, scale, channels)
        return Problem(weight.flatten(1).float(), self._last[1])
