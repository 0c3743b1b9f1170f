"""Element types: one record each, their NumPy forms, and PyTorch's promotion rules."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from ganglion.errors import DTypeError

BOOL, INTEGRAL, FLOATING = 0, 1, 2


class dtype:  # noqa: N801 - PyTorch's name
    """An element type: ``name``, ``itemsize`` in bytes, ``category`` (bool < integer < float)."""

    __slots__ = ("_numpy", "category", "itemsize", "name", "short", "signed")

    def __init__(self, name: str, short: str, itemsize: int, category: int, signed: bool) -> None:
        self.name, self.short, self.itemsize = name, short, itemsize
        self.category, self.signed = category, signed
        self._numpy: np.dtype[Any] | None = None if name == "bfloat16" else np.dtype(name)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that stores it (bfloat16 loads ml_dtypes at first use)."""
        if self._numpy is None:
            self._numpy = _numpy_bfloat16()
        return self._numpy

    @property
    def is_floating_point(self) -> bool:
        return self.category == FLOATING

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self.signed

    def __repr__(self) -> str:
        return f"ganglion.{self.name}"

    def __reduce__(self) -> str:
        return "bool_" if self.category == BOOL else self.name  # a name in this module

    def __deepcopy__(self, memo: dict[int, Any]) -> dtype:
        return self

    def __copy__(self) -> dtype:
        return self


bool_: Final = dtype("bool", "b1", 1, BOOL, False)
uint8: Final = dtype("uint8", "u8", 1, INTEGRAL, False)
int8: Final = dtype("int8", "i8", 1, INTEGRAL, True)
int16: Final = dtype("int16", "i16", 2, INTEGRAL, True)
int32: Final = dtype("int32", "i32", 4, INTEGRAL, True)
int64: Final = dtype("int64", "i64", 8, INTEGRAL, True)
float16: Final = dtype("float16", "f16", 2, FLOATING, True)
bfloat16: Final = dtype("bfloat16", "bf16", 2, FLOATING, True)
float32: Final = dtype("float32", "f32", 4, FLOATING, True)
float64: Final = dtype("float64", "f64", 8, FLOATING, True)

ALL: Final = (
    bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64,
)  # fmt: skip
BY_NAME: Final = {d.name: d for d in ALL}
HALVES: Final = (float16, bfloat16)
_OF_NUMPY: dict[Any, dtype] = {d.numpy: d for d in ALL if d is not bfloat16}
_OF_PYTHON: Final = {bool: bool_, int: int64, float: float64}
# unsigned and signed bytes meet in the next signed type that holds both
_INTEGER_ORDER: Final = (int8, int16, int32, int64)

_default: dtype = float32


@cache
def _numpy_bfloat16() -> np.dtype[Any]:
    import ml_dtypes  # loaded when first needed: `import ganglion` loads NumPy only

    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    _OF_NUMPY[found] = bfloat16
    return found


def of_numpy(found: np.dtype[Any]) -> dtype:
    """The record of a NumPy dtype; an error for what tensors cannot hold."""
    try:
        return _OF_NUMPY[found]
    except KeyError:
        return _of_unusual(found)


def _of_unusual(found: np.dtype[Any]) -> dtype:
    if found.name == "bfloat16" and "ml_dtypes" in sys.modules:
        _numpy_bfloat16()
        return bfloat16
    if found.newbyteorder("=") in _OF_NUMPY:
        return _OF_NUMPY[found.newbyteorder("=")]
    names = ", ".join(BY_NAME)
    raise DTypeError(
        f"cannot make a tensor of NumPy dtype '{found}'; supported are {names}. "
        "Convert the array first, e.g. array.astype('float32')."
    )


def as_dtype(given: Any) -> dtype:
    """A record from a record, a NumPy dtype, a name, or Python's bool, int, float."""
    if isinstance(given, dtype):
        return given
    if given in _OF_PYTHON:
        return _OF_PYTHON[given]
    if isinstance(given, str) and given in BY_NAME:
        return BY_NAME[given]
    try:
        return of_numpy(np.dtype(given))
    except TypeError:
        raise DTypeError(f"expected a dtype such as ganglion.float32, got {given!r}") from None


def get_default_dtype() -> dtype:
    """The dtype of floats that say nothing else (float32 unless set)."""
    return _default


def set_default_dtype(d: dtype) -> None:
    """Set the dtype of floats that say nothing else; it must be floating."""
    global _default
    if not as_dtype(d).is_floating_point:
        raise DTypeError(f"the default dtype must be a floating type, got {d!r}")
    _default = as_dtype(d)


@cache
def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest dtype that holds both, by PyTorch's rules."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == INTEGRAL:
        return _promote_integers(a, b)
    if {a, b} == set(HALVES):
        return float32
    return a if a.itemsize > b.itemsize else b


def _promote_integers(a: dtype, b: dtype) -> dtype:
    if a.signed != b.signed:  # uint8 with a signed type
        signed = a if a.signed else b
        return int16 if signed is int8 else signed
    return max(a, b, key=_INTEGER_ORDER.index)


def combine(strong: dtype | None, weak: dtype | None) -> dtype | None:
    """Let ``weak`` (a 0-d tensor or number) raise the category of ``strong``, not its width."""
    if strong is None or weak is None:
        return strong or weak
    if strong.category >= weak.category and strong.category != BOOL:
        return strong
    return promote_types(strong, weak)


def of_scalar(value: bool | float) -> dtype:
    """The dtype a Python number stands for: bool, int64 or the default float."""
    if isinstance(value, bool):
        return bool_
    return int64 if isinstance(value, int) else _default


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether in-place results of ``from_`` may be stored in ``to`` (no fall in category)."""
    return from_.category <= to.category


class finfo:  # noqa: N801 - PyTorch's name
    """Numerical limits of a floating dtype: bits, eps, max, min, tiny, smallest_normal."""

    def __init__(self, type: dtype | None = None) -> None:
        d = type or _default
        if not d.is_floating_point:
            raise DTypeError(f"finfo takes a floating dtype, got {d!r}; use iinfo for integers")
        limits = _float_limits(d)
        self.dtype, self.bits = d.name, d.itemsize * 8
        self.eps, self.max, self.tiny = limits
        self.min, self.smallest_normal, self.resolution = -self.max, self.tiny, self.eps


class _Limits(NamedTuple):
    eps: float
    max: float
    tiny: float


def _float_limits(d: dtype) -> _Limits:
    if d is bfloat16:
        return _Limits(2.0**-7, (2.0 - 2.0**-7) * 2.0**127, 2.0**-126)
    found = np.finfo(d.numpy)
    return _Limits(float(found.eps), float(found.max), float(found.tiny))


class iinfo:  # noqa: N801 - PyTorch's name
    """Limits of an integer dtype: bits, min, max."""

    def __init__(self, type: dtype) -> None:
        if type.category != INTEGRAL:
            raise DTypeError(f"iinfo takes an integer dtype, got {type!r}; use finfo for floats")
        found = np.iinfo(type.numpy)
        self.dtype, self.bits = type.name, type.itemsize * 8
        self.min, self.max = int(found.min), int(found.max)
