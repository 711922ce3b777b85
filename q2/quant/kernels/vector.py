"""Vectors inside numba functions: 64 bytes of lanes, which LLVM maps to the processor's vector registers.

Numba hands loops to LLVM's own vectorizer, which gives up on those of this package (short, with several arrays, or
looking for a minimum). Here a vector is a value like any other: ``+ - * /`` work lane by lane, with `where` in the
place of branches. NaNs are not expected anywhere.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import models, overload, register_model

__all__ = [
    "LANES",
    "Lanes",
    "absolute",
    "each",
    "equal",
    "fifth_root_guess",
    "first",
    "integers",
    "least",
    "less",
    "load",
    "nearest",
    "store",
    "total",
    "where",
    "widened",
]

Lanes = Any
"""A vector, as a type checker sees it."""

LANES = 8
"""Lanes of a vector of float64 or int64; one of float32 or int32 has twice as many."""

_FLAGS = ("nnan", "nsz")


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a function of LLVM values one that numba functions can call."""
    return extending.intrinsic(function)


class Vector(types.Type):
    """As many lanes of `element` as fit in 64 bytes, or the comparisons of as many."""

    def __init__(self, element: Any, lanes: int) -> None:
        super().__init__(f"Vector({element} x {lanes})")
        self.element, self.lanes = element, lanes


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        element = ir.IntType(1) if kind.element is types.boolean else manager.lookup(kind.element).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))  # type: ignore[no-untyped-call]


def _of(element: Any, lanes: int = 0) -> Vector:
    return Vector(element, lanes or 8 * LANES // (element.bitwidth // 8))


def _same(kind: Any, other: Any) -> bool:
    return isinstance(kind, Vector) and kind == other


def _contiguous(array: Any) -> None:
    if array.layout != "C":
        raise TypingError(f"lanes need a contiguous array, not {array}")


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, lanes: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), lanes.as_pointer())


def _llvm(builder: Any, name: str, result: Any, args: list[Any], flags: tuple[str, ...] = ()) -> Any:
    function = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args, fastmath=flags)


def _suffix(kind: Vector) -> str:
    return f"v{kind.lanes}{'f' if isinstance(kind.element, types.Float) else 'i'}{kind.element.bitwidth}"


@intrinsic
def load(_: Any, array: Any, index: Any) -> Any:
    """Return the lanes ``array[index:]``; the array must have as many there."""
    _contiguous(array)
    kind = _of(array.dtype)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = context.get_value_type(kind)
        return builder.load(_pointer(context, builder, array, args[0], args[1], lanes), align=array.dtype.bitwidth // 8)

    return kind(array, types.intp), build


@intrinsic
def widened(_: Any, array: Any, index: Any) -> Any:
    """Return float64 lanes of ``array[index:]``, a float32 array."""
    _contiguous(array)
    kind = _of(types.float64)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        narrow = ir.VectorType(ir.FloatType(), LANES)
        value = builder.load(_pointer(context, builder, array, args[0], args[1], narrow), align=4)
        return builder.fpext(value, context.get_value_type(kind))

    return kind(array, types.intp), build


@intrinsic
def store(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Write lanes to ``array[index:]``."""
    _contiguous(array)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], args[1], args[2].type)
        builder.store(args[2], pointer, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def each(_: Any, value: Any) -> Any:
    """Return `value` (float64, float32, int64 or int32) in every lane."""
    kind = _of(value)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = context.get_value_type(kind)
        one = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        spread = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
        return builder.shuffle_vector(one, one, spread)

    return kind(value), build


@intrinsic
def integers(_: Any, start: Any) -> Any:
    """Return the int64 lanes start, start + 1, …."""
    kind = _of(types.int64)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes = context.get_value_type(kind)
        one = builder.insert_element(ir.Constant(lanes, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        spread = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))
        return builder.add(spread, ir.Constant(lanes, list(range(LANES))))

    return kind(types.int64), build


def _operator(symbol: Any, on_floats: str, on_integers: str = "") -> None:
    @intrinsic
    def lanes(_: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if isinstance(a.element, types.Float):
                return getattr(builder, on_floats)(*args, flags=_FLAGS)
            return getattr(builder, on_integers)(*args)

        return a(a, b), build

    @overload(symbol, strict=False)
    def overloaded(a: Any, b: Any) -> Any:
        if isinstance(a, Vector) and _same(b, a):
            return lambda a, b: lanes(a, b)  # noqa: PLW0108 (numba wants a function)
        return None


_operator(operator.add, "fadd", "add")
_operator(operator.sub, "fsub", "sub")
_operator(operator.mul, "fmul")
_operator(operator.truediv, "fdiv")


def _comparison(symbol: str) -> Any:
    def lanes(_: Any, a: Any, b: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            floats = isinstance(a.element, types.Float)
            return (builder.fcmp_ordered if floats else builder.icmp_signed)(symbol, *args)

        return Vector(types.boolean, a.lanes)(a, b), build

    return intrinsic(lanes)


less: Any = _comparison("<")
equal: Any = _comparison("==")


@intrinsic
def where(_: Any, condition: Any, a: Any, b: Any) -> Any:
    """Return the lanes of `a` where `condition` holds, else those of `b`."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(*args)

    return a(condition, a, b), build


def _function(llvm: str) -> Any:
    def lanes(_: Any, a: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _llvm(builder, f"llvm.{llvm}.{_suffix(a)}", args[0].type, list(args))

        return a(a), build

    return intrinsic(lanes)


absolute: Any = _function("fabs")
nearest: Any = _function("rint")  # half to even


def _reduction(llvm: str) -> Any:
    def lanes(_: Any, a: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            result = context.get_value_type(a.element)
            flags = _FLAGS if llvm == "fmin" else ()
            start = [ir.Constant(result, 0.0)] if llvm == "fadd" else []
            return _llvm(builder, f"llvm.vector.reduce.{llvm}.{_suffix(a)}", result, [*start, *args], flags)

        return a.element(a), build

    return intrinsic(lanes)


least: Any = _reduction("fmin")
first: Any = _reduction("smin")
total: Any = _reduction("fadd")  # in the order of the lanes: the same on every machine


@intrinsic
def fifth_root_guess(_: Any, a: Any) -> Any:
    """Return a ** -0.2 to 3.3 %, for finite lanes that are not negative: the exponent divided by -5."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, narrow = args[0].type, ir.VectorType(ir.FloatType(), a.lanes)
        whole = ir.VectorType(ir.IntType(32), a.lanes)
        value = args[0] if a.element is types.float32 else builder.fptrunc(args[0], narrow)
        pattern = builder.sitofp(builder.bitcast(value, whole), narrow)
        scaled = builder.fmul(pattern, ir.Constant(narrow, [-0.2] * a.lanes))
        moved = builder.fadd(scaled, ir.Constant(narrow, [1277950000.0] * a.lanes))
        guess = builder.bitcast(builder.fptosi(moved, whole), narrow)
        return guess if a.element is types.float32 else builder.fpext(guess, wide)

    return a(a), build
