"""Integer shape rules shared by every op: broadcasting, dimensions, reshapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, SupportsIndex, overload

import ganglion.dtypes as dt
from ganglion.errors import ArgumentTypeError, IndexingError, ShapeError

Shape = tuple[int, ...]


class Meta(NamedTuple):
    """What is known of a tensor before it is computed."""

    shape: Shape
    dtype: dt.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.short}[{','.join(map(str, self.shape))}]"


class Size(tuple[int, ...]):
    """A tensor's shape: a tuple of ints that also knows its ``numel()``."""

    __slots__ = ()

    def numel(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return f"ganglion.Size({list(self)})"

    @overload  # type: ignore[override]
    def __getitem__(self, key: slice) -> Size: ...
    @overload
    def __getitem__(self, key: int) -> int: ...
    def __getitem__(self, key: Any) -> Any:
        found = tuple.__getitem__(self, key)
        return Size(found) if isinstance(key, slice) else found

    def __add__(self, other: tuple[Any, ...]) -> Size:
        return Size(tuple(self) + tuple(other))


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that all broadcast to; an error names both sizes and the dimension."""
    out: list[int] = [1] * max(map(len, shapes), default=0)
    for shape in shapes:
        for i in range(1, len(shape) + 1):
            if out[-i] == 1:
                out[-i] = shape[-i]
            elif shape[-i] not in (1, out[-i]):
                raise _cannot_broadcast(shapes, i, out[-i], shape[-i])
    return tuple(out)


def _cannot_broadcast(shapes: tuple[Shape, ...], i: int, a: int, b: int) -> ShapeError:
    given = " and ".join(map(show, shapes))
    return ShapeError(
        f"shapes {given} cannot be broadcast together: the size of dimension -{i} is {a} in one "
        f"and {b} in another, and neither is 1. Reshape or unsqueeze one of them."
    )


def show(shape: Iterable[int]) -> str:
    """A shape as people write it: (32, 784)."""
    return str(tuple(shape))


def normalize_dim(dim: SupportsIndex, ndim: int) -> int:
    """A dimension counted from the front; 0-d tensors accept 0 and -1 as PyTorch does."""
    limit = max(ndim, 1)
    if not isinstance(dim, int):
        try:
            dim = dim.__index__()
        except AttributeError:
            raise ArgumentTypeError(f"a dimension must be an int, got {dim!r}") from None
    if not -limit <= dim < limit:
        raise IndexingError(
            f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], "
            f"but got {dim}) for a tensor of {ndim} dimensions"
        )
    return dim % limit


def normalize_dims(dim: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Sorted, distinct dimensions; None and () mean all of them."""
    if dim is None:
        return tuple(range(ndim))
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    if not dims:
        return tuple(range(ndim))
    found = [normalize_dim(d, ndim) for d in dims]
    if len(set(found)) != len(found):
        raise ShapeError(f"dim {found[0]} appears more than once in the list of dims {dims}")
    return tuple(sorted(found)) if ndim else ()


def reduced(shape: Shape, dims: Sequence[int], keepdim: bool) -> Shape:
    """The shape left after reducing ``dims``."""
    if keepdim:
        return tuple(1 if i in dims else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in dims)


def infer_size(shape: Sequence[int], numel: int) -> Shape:
    """Replace the one -1 of a requested shape so that it holds ``numel`` elements."""
    wanted = tuple(int(n) for n in shape)
    if wanted.count(-1) > 1:
        raise ShapeError(f"only one dimension can be inferred (-1), got shape {show(wanted)}")
    if any(n < -1 for n in wanted):
        raise ShapeError(f"invalid shape dimension in {show(wanted)}; sizes are >= 0, or one -1")
    known = math.prod(n for n in wanted if n != -1)
    if -1 in wanted:
        return _fill_unknown(wanted, known, numel)
    if known != numel:
        raise ShapeError(f"shape {show(wanted)} is invalid for input of size {numel}")
    return wanted


def _fill_unknown(wanted: Shape, known: int, numel: int) -> Shape:
    if known == 0:
        raise ShapeError(
            f"cannot reshape tensor of {numel} elements into shape {show(wanted)} because the "
            "unspecified dimension size -1 can be any value and is ambiguous"
        )
    if numel % known:
        raise ShapeError(f"shape {show(wanted)} is invalid for input of size {numel}")
    return tuple(numel // known if n == -1 else n for n in wanted)


def size_args(args: tuple[Any, ...]) -> Shape:
    """Sizes given as ``f(2, 3)`` or ``f((2, 3))``."""
    if len(args) == 1 and not hasattr(args[0], "__index__"):
        args = tuple(args[0])
    try:
        return tuple(n.__index__() for n in args)
    except AttributeError:
        raise ArgumentTypeError(f"sizes must be integers, got {args}") from None
