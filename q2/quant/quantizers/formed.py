"""Quantizers whose options have a form behind the width, as in ``integer-8.4`` and ``mxfp6.e3m2``."""

import functools
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

from torch import Tensor

from q2.errors import OptionError, Q2Error
from q2.quant.base import Quantizer

__all__ = ["Formed"]


class Formed(Quantizer):
    """A number format: codes mean the same wherever they stand, given the width and the form.

    The class of a form is a subclass whose name says it (``integer.4``), so that whatever finds a quantizer by its name
    finds that one.
    """

    form: ClassVar[str] = ""

    @classmethod
    def of_form(cls, form: str) -> type[Self]:
        """Return the class of a form. Raises `OptionError` for one that there is not."""
        cls.check_form(form)
        return cast(type[Self], _formed(cls, form))

    @classmethod
    @abstractmethod
    def check_form(cls, form: str) -> None:
        """Raise `OptionError` for a form that there is not."""

    @abstractmethod
    def decode_at(self, codes: Tensor, parameters: Mapping[str, Tensor], bits: int) -> Tensor:
        """Return the float32 values, in the shape of the codes, that codes of a width stand for."""

    def decode(self, codes: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        """Raise `Q2Error`: codes, of any shape, cannot be decoded without their width; see `decode_at`."""
        raise Q2Error(f"codes of {self.name!r} cannot be decoded without their width")

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, (_plain(type(self)), self.form)


def looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """Return ``table[codes]`` in float32, in the shape of the codes."""
    return table.float().to(codes.device)[codes.int()]


def _plain(kind: type[Formed]) -> type[Formed]:
    """Return the class without a form."""
    return cast(type[Formed], kind.__mro__[1]) if kind.form else kind


@functools.cache
def _formed(kind: Any, form: str) -> Any:
    names = {"name": f"{kind.name}.{form}", "form": form, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), names)


def _made(kind: type[Formed], form: str) -> Formed:
    return (kind.of_form(form) if form else kind)()


def check_layout(name: str, bits: int, layout: tuple[int, int]) -> None:
    """Raise `OptionError` unless a layout takes as many bits as the option says."""
    if 1 + sum(layout) != bits:
        form = f"e{layout[0]}m{layout[1]}"
        raise OptionError(f"width {bits} of {name!r}: {form} with its sign takes {1 + sum(layout)} bits")
