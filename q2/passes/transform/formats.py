"""Number formats in a run file: the keys of a rule, and the layers that get them, whatever their type."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from q2.config import Key, Table, validate
from q2.errors import ConfigError, OptionError

if TYPE_CHECKING:
    from q2.graph import Graph
    from q2.quant.formats import Format
    from q2.quant.formatted import Formats

__all__ = ["NAMES", "ROLES", "FormatConfig", "formatted_layers", "is_format"]

NAMES = ("integer", "minifloat", "mxint", "mxfp")
ROLES = ("data_in", "weight", "bias")
_KEYS = {
    "integer": ("width", "frac_width"),
    "minifloat": ("width", "exponent_width", "exponent_bias"),
    "mxint": ("width", "block_size"),
    "mxfp": ("width", "exponent_width", "block_size"),
}


@dataclass(frozen=True)
class FormatConfig:
    """The config of a rule: a number format for input, weight and bias, each where its width is given.

    A fraction's width of ``"NA"`` is half the width. `rounding` is that of all three, `saturate` false lets integers
    wrap around and floats become infinite. Keys that the format has no use for are an error.
    """

    name: Literal["integer", "minifloat", "mxint", "mxfp"]
    data_in_width: int | None = None
    data_in_frac_width: int | Literal["NA"] | None = None
    data_in_exponent_width: int | None = None
    data_in_exponent_bias: int | None = None
    data_in_block_size: int | None = None
    weight_width: int | None = None
    weight_frac_width: int | Literal["NA"] | None = None
    weight_exponent_width: int | None = None
    weight_exponent_bias: int | None = None
    weight_block_size: int | None = None
    bias_width: int | None = None
    bias_frac_width: int | Literal["NA"] | None = None
    bias_exponent_width: int | None = None
    bias_exponent_bias: int | None = None
    bias_block_size: int | None = None
    rounding: Literal["nearest", "floor", "zero"] = "nearest"
    saturate: bool = True
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def read(cls, table: Table, where: Callable[[Key], str]) -> Self:
        """Read a rule's ``config``. Raises `ConfigError`, with the key, for widths and fractions that make no sense."""
        found = validate(cls, table, where)
        for key, value in found.to_table().items():
            role = next((role for role in ROLES if key.startswith(f"{role}_")), None)
            if role is None:
                continue
            kind = key.removeprefix(f"{role}_")
            if kind not in _KEYS[found.name]:
                usual = ", ".join(f"{role}_{each}" for each in _KEYS[found.name])
                raise ConfigError(f"{where((key,))}: {found.name!r} has no use for it; its keys are {usual}")
            if getattr(found, f"{role}_width") is None:
                raise ConfigError(f"{where((key,))}: needs {role}_width beside it")
            try:
                found.format(role)
            except OptionError as error:
                raise ConfigError(f"{where((key,))}: {error}, not {value!r}") from error
        if all(getattr(found, f"{role}_width") is None for role in ROLES):
            raise ConfigError(f"{where(('name',))}: {found.name!r} needs data_in_width, weight_width or bias_width")
        return found

    def to_table(self) -> Table:
        """Return what is given, as a TOML table."""
        plain = {entry.name: entry.default for entry in dataclasses.fields(self)}
        found = {name: getattr(self, name) for name in plain}
        return {name: value for name, value in found.items() if value is not None and value != plain[name]}

    def format(self, role: str) -> "Format | None":
        """Return the format of ``data_in``, ``weight`` or ``bias``; None without a width. Raises `OptionError`."""
        from q2.quant.formats import Integer, MiniFloat
        from q2.quant.formats.minifloat import parse_layout
        from q2.quant.formats.mx import BLOCK, LAYOUTS, mx_float, mx_integer

        width = getattr(self, f"{role}_width")
        if width is None:
            return None
        if width < 1:
            raise OptionError(f"{role}_width should be 1 or more")
        frac, exponent, bias, block = (
            getattr(self, f"{role}_{key}") for key in ("frac_width", "exponent_width", "exponent_bias", "block_size")
        )
        if self.name == "integer":
            frac = width // 2 if frac in (None, "NA") else frac
            return Integer(width, frac, rounding=self.rounding, saturate=self.saturate)
        block = BLOCK if block is None else block
        if self.name == "mxint":
            return mx_integer(width, block)
        if exponent is None:
            layouts = LAYOUTS if self.name == "mxfp" else {8: "e4m3", 6: "e3m2", 5: "e2m2", 4: "e2m1"}
            if width not in layouts:
                raise OptionError(f"{role}_exponent_width: a {self.name!r} of {width} bits needs it")
            exponent = parse_layout(layouts[width])[0]
        if self.name == "mxfp":
            return mx_float(exponent, width - 1 - exponent, block)
        specials: Literal["ieee", "none"] = "none" if self.saturate else "ieee"
        return MiniFloat(exponent, width - 1 - exponent, bias, specials, self.rounding, self.saturate)

    def formats(self) -> "Formats":
        """Return the formats of all three."""
        from q2.quant.formatted import Formats

        return Formats(*(self.format(role) for role in ROLES))

    def __str__(self) -> str:
        return str(self.formats())


def is_format(table: Mapping[str, object]) -> bool:
    """Return whether a rule's ``config`` names a number format; the same as text, ``"integer-8.4"``, is an option.

    >>> is_format({"name": "integer", "weight_width": 8}), is_format({"name": "uaq", "weight_width": 4})
    (True, False)
    """
    return table.get("name") in NAMES


def formatted_layers(graph: "Graph") -> dict[str, str]:
    """Return the types of all modules that are nodes of the graph and have parameters, by name."""
    from q2.quant.simulated import Quantized

    found: dict[str, str] = {}
    for node in graph.fx.nodes:
        if node.op == "call_module":
            module = graph.model.get_submodule(str(node.target))
            if any(True for _ in module.parameters()):
                kind = module.exact_class if isinstance(module, Quantized) else type(module)
                found[str(node.target)] = kind.__name__
    return found
