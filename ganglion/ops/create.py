"""Tensors from sizes alone: constants, ranges, the identity. Records without inputs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError
from ganglion.ops import powers, scalar
from ganglion.ops.movement import cast, clone, expand
from ganglion.ops.places import Index
from ganglion.ops.record import Op, into
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta, Shape, show, size_args
from ganglion.storage import device as as_device

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Number = bool | int | float


# --- records --------------------------------------------------------------------------------------


def _filled(shape: Shape, value: Number, dtype: dt.dtype) -> Array:
    if value == 0 and math.copysign(1, value) > 0:
        return np.zeros(shape, dtype.numpy)  # the system's zero pages: no writing
    return np.full(shape, value, dtype.numpy)


def _ranged(start: Number, step: Number, size: int, dtype: dt.dtype) -> Array:
    counts = np.arange(size)
    return (start + step * counts).astype(dtype.numpy)


def _computing(dtype: dt.dtype) -> Any:
    """The type in which evenly spaced values are computed: as PyTorch, the result's own."""
    if dtype.is_floating_point:
        return np.float64 if dtype is dt.float64 else np.float32
    return np.float64


def _spaced(start: float, end: float, steps: int, dtype: dt.dtype) -> Array:
    """Counted from both ends towards the middle, so both ends are exact."""
    kind = _computing(dtype)
    first, last = kind(start), kind(end)
    step = (last - first) / kind(max(steps - 1, 1))
    counts = np.arange(steps).astype(kind)
    values = np.where(counts < steps // 2, first + step * counts, last - step * counts[::-1])
    return values if steps > 1 else np.full(steps, first)


def _line(start: float, end: float, steps: int, dtype: dt.dtype) -> Array:
    return _spaced(start, end, steps, dtype).astype(dtype.numpy)


def _log_line(start: float, end: float, steps: int, base: float, dtype: dt.dtype) -> Array:
    exponents = _spaced(start, end, steps, dtype)
    powers: Array = np.power(exponents.dtype.type(base), exponents)
    return powers.astype(dtype.numpy)


def _constant(name: str, kernel: Any, infer: Any, element: Any) -> Op:
    return Op(name, "create", kernel, infer, element=element)


def _range_element(index: Index, start: Number, step: Number, size: int, dtype: dt.dtype) -> Scalar:
    if isinstance(start, int) and isinstance(step, int):
        return scalar.cast(index[0] * step + start, dtype)
    wide = scalar.cast(index[0], dt.float64) * float(step)
    return scalar.cast(wide + float(start), dtype)


def _spaced_element(index: Index, start: float, end: float, steps: int, dtype: dt.dtype) -> Scalar:
    kind = _computing(dtype)
    first, last = kind(start), kind(end)
    step = (last - first) / kind(max(steps - 1, 1))
    wide = dt.of_numpy(np.dtype(kind))
    if steps < 2:
        return scalar.const(float(first), wide)
    up, down = (scalar.cast(i, wide) * float(step) for i in (index[0], steps - 1 - index[0]))
    return scalar.where(index[0] < steps // 2, up + float(first), float(last) - down)


def _log_element(
    index: Index, start: float, end: float, steps: int, base: float, dtype: dt.dtype
) -> Scalar:
    exponent = _spaced_element(index, start, end, steps, dtype)
    return scalar.cast(powers.power(scalar.const(base, exponent.dtype), exponent), dtype)


FULL = _constant(
    "full",
    _filled,
    lambda shape, value, dtype: Meta(shape, dtype),
    lambda index, shape, value, dtype: scalar.const(value, dtype),
)
ARANGE = _constant(
    "arange",
    _ranged,
    lambda start, step, size, dtype: Meta((size,), dtype),
    _range_element,
)
LINSPACE = _constant(
    "linspace",
    _line,
    lambda start, end, steps, dtype: Meta((steps,), dtype),
    lambda index, start, end, steps, dtype: scalar.cast(
        _spaced_element(index, start, end, steps, dtype), dtype
    ),
)
LOGSPACE = _constant(
    "logspace",
    _log_line,
    lambda start, end, steps, base, dtype: Meta((steps,), dtype),
    _log_element,
)
EYE = _constant(
    "eye",
    lambda n, m, dtype: np.eye(n, m, dtype=dtype.numpy),
    lambda n, m, dtype: Meta((n, m), dtype),
    lambda index, n, m, dtype: scalar.cast(scalar.eq(index[0], index[1]), dtype),
)


# --- arguments ------------------------------------------------------------------------------------


def sizes(args: tuple[Any, ...], size: Any = None) -> Shape:
    """A shape given as ``f(2, 3)``, ``f((2, 3))`` or ``f(size=(2, 3))``."""
    if size is None and not args:
        raise ArgumentTypeError("missing the argument 'size': give ints, or one tuple of ints")
    if size is not None and args:
        raise ArgumentTypeError(f"got sizes {show(args)} and size={size!r}; give one of them")
    try:
        shape = size_args(args if size is None else (size,))
    except TypeError:
        raise ArgumentTypeError(f"sizes must be ints or a tuple of ints, got {args}") from None
    if any(n < 0 for n in shape):
        raise ShapeError(f"sizes must be non-negative, got {show(shape)}")
    return shape


def made(value: Tensor, requires_grad: bool, out: Tensor | None = None) -> Tensor:
    """The last step of every creation: ``requires_grad=`` and ``out=``."""
    if requires_grad:
        value.requires_grad_()
    return into(out, value)


def chosen(dtype: Any, device: Any, otherwise: dt.dtype | None = None) -> dt.dtype:
    """The dtype to create, after a check that the device exists."""
    if device is not None:
        as_device(device)
    return (otherwise or dt.get_default_dtype()) if dtype is None else dt.as_dtype(dtype)


def number(x: Any, name: str) -> Number:
    """A Python number from a number or a one-element tensor."""
    if isinstance(x, (bool, int, float)):
        return x
    try:
        return x.item()  # type: ignore[no-any-return]
    except AttributeError:
        raise ArgumentTypeError(f"{name} must be a number, got {x!r}") from None


def _fitting(value: Number, dtype: dt.dtype) -> Number:
    """``value`` as the dtype's kind of number; an error when it cannot be held."""
    if dtype.category == dt.BOOL:
        return bool(value)
    if dtype.category == dt.FLOATING:
        return float(value)
    limits = dt.iinfo(dtype)
    low = limits.min if dtype.signed else -limits.max  # PyTorch lets negatives wrap around
    if math.isfinite(value) and low <= value <= limits.max:
        return int(value) & limits.max if not dtype.signed else int(value)
    raise DTypeError(
        f"value cannot be converted to type {dtype.name} without overflow: {value} lies outside "
        f"{limits.min} to {limits.max}"
    )


# --- constants ------------------------------------------------------------------------------------


def full(
    size: Any,
    fill_value: Any,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``size`` filled with one value, which also gives the dtype unless ``dtype`` does."""
    if hasattr(size, "__index__"):
        raise ArgumentTypeError(f"full() needs its size as a tuple of ints, got {size!r}")
    shape = sizes((size,))
    if not isinstance(fill_value, (bool, int, float)):
        d = chosen(dtype, device, _kind_of(fill_value))
        return made(clone(expand(cast(fill_value, d), shape)), requires_grad, out)
    d = chosen(dtype, device, out.dtype if out is not None else dt.of_scalar(fill_value))
    return made(FULL(shape=shape, value=_fitting(fill_value, d), dtype=d), requires_grad, out)


def _kind_of(x: Tensor) -> dt.dtype:
    """The dtype of a Python number of the tensor's category."""
    kinds = {dt.BOOL: dt.bool_, dt.INTEGRAL: dt.int64, dt.FLOATING: dt.get_default_dtype()}
    return kinds[x.dtype.category]


def zeros(
    *sizes_: Any,
    size: Any = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of the given sizes in the default dtype."""
    d = chosen(dtype, device, out.dtype if out is not None else None)
    return made(FULL(shape=sizes(sizes_, size), value=0, dtype=d), requires_grad, out)


def ones(
    *sizes_: Any,
    size: Any = None,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of the given sizes in the default dtype."""
    d = chosen(dtype, device, out.dtype if out is not None else None)
    return made(FULL(shape=sizes(sizes_, size), value=1, dtype=d), requires_grad, out)


empty = zeros  # contents are left open by PyTorch; zeros are the same in every run


def full_like(
    input: Tensor,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``input``'s shape and dtype, filled with one value."""
    d = chosen(dtype, device, input.dtype)
    return full(input._data.shape, fill_value, dtype=d, requires_grad=requires_grad)


def zeros_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Zeros of ``input``'s shape and dtype."""
    d = chosen(dtype, device, input.dtype)
    return made(FULL(shape=input._data.shape, value=0, dtype=d), requires_grad)


def ones_like(
    input: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """Ones of ``input``'s shape and dtype."""
    d = chosen(dtype, device, input.dtype)
    return made(FULL(shape=input._data.shape, value=1, dtype=d), requires_grad)


empty_like = zeros_like


def new_full(
    input: Tensor,
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Another shape in ``input``'s dtype, filled with one value."""
    d = chosen(dtype, device, input.dtype)
    return full(size, fill_value, dtype=d, requires_grad=requires_grad)


def new_zeros(
    input: Tensor,
    *sizes_: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Zeros of another shape in ``input``'s dtype."""
    d = chosen(dtype, device, input.dtype)
    return zeros(*sizes_, size=size, dtype=d, requires_grad=requires_grad)


def new_ones(
    input: Tensor,
    *sizes_: Any,
    size: Any = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Ones of another shape in ``input``'s dtype."""
    d = chosen(dtype, device, input.dtype)
    return ones(*sizes_, size=size, dtype=d, requires_grad=requires_grad)


new_empty = new_zeros


def scalar_tensor(
    value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A 0-d tensor in the default dtype."""
    return full((), value, dtype=chosen(dtype, device), requires_grad=requires_grad)


# --- ranges ---------------------------------------------------------------------------------------


def arange(
    start: Any,
    end: Any = None,
    step: Any = 1,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``start, start + step, ...`` below ``end``; ``arange(end)`` counts from 0.

    int64 if all arguments are integers, else the default dtype.
    """
    if end is None:
        start, end = 0, start
    limits = number(start, "start"), number(end, "end"), number(step, "step")
    whole = all(isinstance(x, int) for x in limits)
    d = chosen(dtype, device, out.dtype if out is not None else dt.int64 if whole else None)
    first, last, by = limits if d.is_floating_point else map(int, limits)
    size = _count(first, last, by)
    if d is dt.bool_:
        raise DTypeError("arange cannot count in bool; use an integer dtype and convert")
    return made(ARANGE(start=first, step=by, size=size, dtype=d), requires_grad, out)


def _count(first: Number, last: Number, by: Number) -> int:
    if by == 0:
        raise ArgumentError("arange: step must be nonzero")
    span = (last - first) / by
    if not math.isfinite(span):
        raise ArgumentError(f"arange: unsupported range {first} to {last}")
    if span < 0:
        raise ArgumentError(
            "arange: upper bound and lower bound inconsistent with step sign: "
            f"{first} to {last} in steps of {by}"
        )
    if all(isinstance(x, int) for x in (first, last, by)):
        return int(-((first - last) // by))
    return math.ceil(span)


def _steps(steps: Any) -> int:
    count = int(number(steps, "steps"))
    if count < 0:
        raise ArgumentError(f"number of steps must be non-negative, got {count}")
    return count


def linspace(
    start: Any,
    end: Any,
    steps: Any,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``steps`` evenly spaced values from ``start`` to ``end``, both included."""
    d = chosen(dtype, device, out.dtype if out is not None else None)
    first, last = float(number(start, "start")), float(number(end, "end"))
    value = LINSPACE(start=first, end=last, steps=_steps(steps), dtype=d)
    return made(value, requires_grad, out)


def logspace(
    start: Any,
    end: Any,
    steps: Any,
    base: float = 10.0,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base`` to the power of ``steps`` evenly spaced exponents from ``start`` to ``end``."""
    d = chosen(dtype, device, out.dtype if out is not None else None)
    first, last = float(number(start, "start")), float(number(end, "end"))
    value = LOGSPACE(start=first, end=last, steps=_steps(steps), base=float(base), dtype=d)
    return made(value, requires_grad, out)


def eye(
    n: int,
    m: int | None = None,
    *,
    out: Tensor | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The identity: ones on the diagonal of an (n, m) matrix, m = n unless given."""
    shape = sizes((n, n if m is None else m))
    d = chosen(dtype, device, out.dtype if out is not None else None)
    return made(EYE(n=shape[0], m=shape[1], dtype=d), requires_grad, out)
