"""Reductions over dimensions: sums, products, extremes and truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, IndexingError, ShapeError
from ganglion.ops import places
from ganglion.ops.arithmetic import div, mul
from ganglion.ops.compare import eq, isnan, logical_not, ne
from ganglion.ops.elementwise import Array
from ganglion.ops.movement import expand, reshape
from ganglion.ops.pick import Pair, Picked, check_not_empty, picked
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.scan import in_dtype, product_of_others, widened
from ganglion.ops.select import maximum, minimum, where
from ganglion.shapes import Meta, Shape, normalize_dim, normalize_dims, reduced

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Dims = int | Sequence[int] | None

BLOCK = 256  # rows whose sum is one partial sum
_add: Any = np.add.reduce  # NumPy's types do not know that keepdims may be a variable


def grow(g: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    """A reduced tensor (with or without kept dimensions) expanded back over ``dims``."""
    kept = tuple(1 if i in dims else n for i, n in enumerate(shape))
    return expand(reshape(g, kept), shape)


def count(shape: Shape, dims: Sequence[int]) -> int:
    """How many elements are reduced to one."""
    return math.prod(shape[d] for d in dims)


def smaller(x: Meta, dims: tuple[int, ...], keepdim: bool, **params: Any) -> Meta:
    """The shape rule of reductions that keep the dtype."""
    return Meta(reduced(x.shape, dims, keepdim), x.dtype)


def each_element(x: Meta, **params: Any) -> int:
    """The FLOPs of one operation per element of the input."""
    return x.numel


# --- sum, mean, product ---------------------------------------------------------------------------


def total(x: Array, dims: tuple[int, ...], keepdim: bool = False) -> Any:
    """Sum of floats; long columns block by block, so that rounding errors do not pile up."""
    if dims[:1] == (0,) and len(x) > 2 * BLOCK and len(dims) < x.ndim:
        return _total_of_blocks(x, dims, keepdim)
    return _add(x, axis=dims, keepdims=keepdim)


def _total_of_blocks(x: Array, dims: tuple[int, ...], keepdim: bool) -> Any:
    whole = len(x) // BLOCK * BLOCK
    blocks = x[:whole].reshape(-1, BLOCK, *x.shape[1:])
    sums = _add(blocks, axis=tuple(d + 1 for d in dims), keepdims=keepdim)
    rest = _add(x[whole:], axis=dims, keepdims=keepdim)
    return total(sums, (0,)) + rest


def _sum_array(x: Array, dims: tuple[int, ...], keepdim: bool) -> Any:
    if x.dtype.kind == "f":
        return total(x, dims, keepdim)
    return _add(x, axis=dims, keepdims=keepdim, dtype=np.int64)


SUM = Op(
    "sum",
    "reduce",
    _sum_array,
    lambda x, dims, keepdim: Meta(reduced(x.shape, dims, keepdim), widened(x.dtype)),
    vjp=(lambda s, g: grow(g, s.shapes[0], s["dims"]),),
    flops=each_element,
    element=places.reduction("sum"),
)


def _mean_rule(s: Saved, g: Tensor) -> Tensor:
    shape, dims = s.shapes[0], s["dims"]
    return grow(div(g, count(shape, dims)), shape, dims)


MEAN = Op(
    "mean",
    "reduce",
    lambda x, dims, keepdim: total(x, dims, keepdim) / count(x.shape, dims),
    smaller,
    vjp=(_mean_rule,),
    decompose=lambda x, dims, keepdim: (
        SUM(x, dims=dims, keepdim=keepdim) / count(x._data.shape, dims)
    ),
    flops=each_element,
)


def _prod_rule(s: Saved, g: Tensor) -> Tensor:
    dims = s["dims"]
    return mul(grow(g, s.shapes[0], dims), product_of_others(s.x, dims[0]))


PROD = Op(
    "prod",
    "reduce",
    lambda x, dims, keepdim: np.multiply.reduce(
        x, axis=dims, keepdims=keepdim, dtype=x.dtype if x.dtype.kind == "f" else np.int64
    ),
    SUM.infer,
    vjp=(_prod_rule,),
    saves="x",
    flops=each_element,
    element=places.reduction("prod"),
)


def sum(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Sum over ``dim`` (all dimensions when None); integers and bools are summed as int64."""
    dims = normalize_dims(dim, input.ndim)
    found = SUM(in_dtype(input, dtype), dims=dims, keepdim=keepdim)
    return into(out, in_dtype(found, dtype))


def nansum(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Sum over ``dim`` with NaN counted as 0."""
    if input.dtype.is_floating_point:
        input = where(isnan(input), 0.0, input)
    return sum(input, dim, keepdim, dtype=dtype, out=out)


def mean(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Average over ``dim`` (all dimensions when None) of a floating tensor; NaN if empty."""
    input = in_dtype(input, dtype)
    if not input.dtype.is_floating_point:
        raise DTypeError(
            "mean(): could not infer output dtype. Input dtype must be a floating point dtype. "
            f"Got: {input.dtype.name}. Convert it first, or pass dtype=."
        )
    return into(out, MEAN(input, dims=normalize_dims(dim, input.ndim), keepdim=keepdim))


def nanmean(
    input: Tensor,
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Average over ``dim`` of the elements that are not NaN."""
    if not input.dtype.is_floating_point:
        raise DTypeError(
            "nanmean(): expected input to have a floating point dtype but got "
            f"{input.dtype.name}; use mean(input, dtype=...)"
        )
    counted = sum(logical_not(isnan(input)), dim, keepdim)
    return into(out, nansum(input, dim, keepdim, dtype=dtype) / counted)


def prod(
    input: Tensor,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: dt.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Product over ``dim`` (all elements when None); integers and bools multiply as int64."""
    x = in_dtype(input, dtype)
    if dim is None or not x.ndim:
        x, dim = reshape(x, (-1,)), 0
    found = PROD(x, dims=(normalize_dim(dim, x.ndim),), keepdim=keepdim and bool(input.ndim))
    return into(out, in_dtype(found, dtype))


def sum_to(x: Tensor, shape: Shape) -> Tensor:
    """Sum over the dimensions that broadcasting added or grew, back to ``shape``."""
    given = x._data.shape
    lead = len(given) - len(shape)
    dims = tuple(range(lead)) + tuple(
        i + lead for i, n in enumerate(shape) if n == 1 and given[i + lead] != 1
    )
    if dims:
        x = SUM(x, dims=dims, keepdim=False)
    return x if x._data.shape == shape else reshape(x, shape)


# --- extremes -------------------------------------------------------------------------------------


def tied_rule(s: Saved, g: Tensor) -> Tensor:
    """Shares the gradient evenly among the elements equal to the one that was chosen."""
    shape, dims = s.shapes[0], s["dims"]
    tied = eq(s.x, grow(s.out, shape, dims))
    share = g / SUM(tied, dims=dims, keepdim=s["keepdim"])
    return tied * grow(share, shape, dims)


def _extreme(name: str, kernel: np.ufunc, kind: str) -> Op:
    return Op(
        name,
        "reduce",
        lambda x, dims, keepdim: kernel.reduce(x, axis=dims, keepdims=keepdim),
        smaller,
        vjp=(tied_rule,),
        saves="xo",
        flops=each_element,
        element=places.extreme(kind),
    )


def _position(name: str, kernel: Any, kind: str) -> Op:
    return Op(
        name,
        "reduce",
        lambda x, dim, keepdim: kernel(x, axis=dim, keepdims=keepdim),
        lambda x, dim, keepdim: Meta(reduced(x.shape, (dim,), keepdim), dt.int64),
        flops=each_element,
        element=places.place_of_extreme(kind),
    )


AMAX, AMIN = _extreme("amax", np.maximum, "max"), _extreme("amin", np.minimum, "min")
ARGMAX, ARGMIN = _position("argmax", np.argmax, "max"), _position("argmin", np.argmin, "min")


class MinMax(NamedTuple):
    """The two ends of a tensor's range."""

    min: Tensor
    max: Tensor


def _check_dims(name: str, input: Tensor, dim: Any, error: type[Exception] = ShapeError) -> None:
    """Refuse to choose among no elements."""
    shape = input._data.shape
    if 0 not in shape:
        return
    if dim is None:
        raise error(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
            "Specify the reduction dim with the 'dim' argument."
        )
    for d in normalize_dims(dim, len(shape)):
        check_not_empty(name, shape, d)


def amax(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Largest element over ``dim``; equal ones share the gradient. NaN wins."""
    _check_dims("amax", input, dim)
    return into(out, AMAX(input, dims=normalize_dims(dim, input.ndim), keepdim=keepdim))


def amin(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Smallest element over ``dim``; equal ones share the gradient. NaN wins."""
    _check_dims("amin", input, dim)
    return into(out, AMIN(input, dims=normalize_dims(dim, input.ndim), keepdim=keepdim))


def aminmax(
    input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: Pair | None = None
) -> MinMax:
    """Smallest and largest element over ``dim`` (all dimensions when None)."""
    _check_dims("aminmax", input, dim)
    low, high = amin(input, dim, keepdim), amax(input, dim, keepdim)
    return MinMax(low, high) if out is None else MinMax(into(out[0], low), into(out[1], high))


def _arg(op: Op, input: Tensor, dim: int | None, keepdim: bool) -> Tensor:
    """Position of an extreme along ``dim``, or in the flattened tensor."""
    _check_dims(op.name, input, dim, IndexingError)
    if dim is not None:
        return op(input, dim=normalize_dim(dim, input.ndim), keepdim=keepdim)  # type: ignore[no-any-return]
    found = op(reshape(input, (-1,)), dim=0, keepdim=False)
    return reshape(found, (1,) * input.ndim) if keepdim else found


def argmax(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Position of the largest element along ``dim``, the first of equals or the first NaN."""
    return into(out, _arg(ARGMAX, input, dim, keepdim))


def argmin(
    input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Position of the smallest element along ``dim``, the first of equals or the first NaN."""
    return into(out, _arg(ARGMIN, input, dim, keepdim))


def _chosen(name: str, op: Op, input: Tensor, dim: int, keepdim: bool, out: Any) -> Picked:
    dim = normalize_dim(dim, input.ndim)
    check_not_empty(name, input._data.shape, dim)
    return picked(input, dim, op(input, dim=dim, keepdim=True), keepdim, out)


class _Forms(NamedTuple):
    """What ``max`` or ``min`` does with one tensor, along a dimension, and with two tensors."""

    name: str
    whole: Op
    along: Op
    of_two: Callable[..., Tensor]


_MAX = _Forms("max", AMAX, ARGMAX, maximum)
_MIN = _Forms("min", AMIN, ARGMIN, minimum)


def _extreme_of(
    forms: _Forms, input: Tensor, dim: Any, keepdim: bool, other: Tensor | None, out: Any
) -> Any:
    if hasattr(dim, "_data"):
        dim, other = None, dim
    if other is not None:
        return forms.of_two(input, other, out=out)
    if dim is not None:
        return _chosen(forms.name, forms.along, input, dim, keepdim, out)
    _check_dims(forms.name, input, None)
    return into(out, forms.whole(input, dims=tuple(range(input.ndim)), keepdim=False))


def max(
    input: Tensor,
    dim: int | Tensor | None = None,
    keepdim: bool = False,
    *,
    other: Tensor | None = None,
    out: Any = None,
) -> Any:
    """Largest element; with ``dim``, ``(values, indices)``; of two tensors, ``maximum``."""
    return _extreme_of(_MAX, input, dim, keepdim, other, out)


def min(
    input: Tensor,
    dim: int | Tensor | None = None,
    keepdim: bool = False,
    *,
    other: Tensor | None = None,
    out: Any = None,
) -> Any:
    """Smallest element; with ``dim``, ``(values, indices)``; of two tensors, ``minimum``."""
    return _extreme_of(_MIN, input, dim, keepdim, other, out)


# --- truth ----------------------------------------------------------------------------------------


def _truth_dtype(d: dt.dtype) -> dt.dtype:
    return d if d is dt.uint8 else dt.bool_


def _truth(name: str, kernel: np.ufunc, kind: str) -> Op:
    return Op(
        name,
        "reduce",
        lambda x, dims, keepdim: kernel.reduce(x, axis=dims, keepdims=keepdim).astype(
            np.uint8 if x.dtype == np.uint8 else bool
        ),
        lambda x, dims, keepdim: Meta(reduced(x.shape, dims, keepdim), _truth_dtype(x.dtype)),
        flops=each_element,
        element=places.truth(kind),
    )


ALL, ANY = _truth("all", np.logical_and, "and"), _truth("any", np.logical_or, "or")


def _truth_dims(dim: Dims, ndim: int) -> tuple[int, ...]:
    """Unlike elsewhere in PyTorch, no dimensions means none, not all."""
    if dim is None or isinstance(dim, int) or len(dim):
        return normalize_dims(dim, ndim)
    return ()


def all(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Whether every element over ``dim`` is nonzero, as bool (as uint8 for uint8)."""
    return into(out, ALL(input, dims=_truth_dims(dim, input.ndim), keepdim=keepdim))


def any(
    input: Tensor, dim: Dims = None, keepdim: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """Whether some element over ``dim`` is nonzero, as bool (as uint8 for uint8)."""
    return into(out, ANY(input, dims=_truth_dims(dim, input.ndim), keepdim=keepdim))


def count_nonzero(input: Tensor, dim: Dims = None) -> Tensor:
    """How many elements over ``dim`` are nonzero."""
    return sum(ne(input, 0), dim)
