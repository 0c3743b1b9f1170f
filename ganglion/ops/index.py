"""Elements at integer positions: the records of indexing, gather and scatter-add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import DTypeError, IndexingError, ShapeError
from ganglion.ops import places, sweep
from ganglion.ops.movement import SLICE, reshape
from ganglion.ops.record import Op, Saved
from ganglion.shapes import Meta, Shape, broadcast_shapes, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- positions ------------------------------------------------------------------------------------


def bounded(index: Array, dim: int, size: int) -> Array:
    """``index`` as int64; every entry must lie in [0, size)."""
    wide = index.astype(np.int64, copy=False)
    if wide.size and wide.view(np.uint64).max() >= size:  # negative ones look huge
        wrong = wide[(wide < 0) | (wide >= size)].flat[0]
        raise IndexingError(f"index {wrong} is out of bounds for dimension {dim} with size {size}")
    return wide


def _flat(shape: Shape, parts: list[Array]) -> Array:
    """Row-major positions in an array of ``shape``; ``parts`` index its dimensions, broadcast."""
    positions, stride = parts[-1], shape[-1]
    for size, part in zip(shape[-2::-1], parts[-2::-1], strict=True):
        positions = positions + part * stride
        stride *= size
    return positions


def _column(n: int, after: int) -> Array:
    """0 .. n-1, shaped to broadcast before ``after`` more dimensions."""
    return np.arange(n).reshape(n, *(1,) * after)


def along(shape: Shape, index: Array, dim: int) -> Array:
    """Positions of the elements that ``gather`` reads from an array of ``shape``."""
    last = len(shape) - 1
    parts = [_column(n, last - i) for i, n in enumerate(index.shape)]
    parts[dim] = bounded(index, dim, shape[dim])
    return _flat(shape, parts)


def _spread(shape: Shape, dims: Shape, parts: Sequence[Array]) -> list[Array]:
    """For every dimension its positions in ``x[parts at dims]``, shaped to broadcast together."""
    kept = [d for d in range(len(shape)) if d not in dims]
    before = dims[0] if _adjacent(dims) else 0  # kept dimensions that precede the indexed block
    block = parts[0].ndim
    after = len(kept) - before
    found: dict[int, Array] = {}
    for place, d in enumerate(kept):
        behind = (
            after - 1 - (place - before) if place >= before else after + block + before - 1 - place
        )
        found[d] = _column(shape[d], behind)
    for d, part in zip(dims, parts, strict=True):
        found[d] = part.reshape((*part.shape, *(1,) * after))
    return [found[d] for d in range(len(shape))]


def _adjacent(dims: Shape) -> bool:
    return dims[-1] - dims[0] == len(dims) - 1


# --- gather and scatter_add: each is the other's gradient -----------------------------------------


def check_along(shape: Shape, index: Shape, dim: int) -> None:
    if len(shape) != len(index):
        raise ShapeError(
            "Index tensor must have the same number of dimensions as input tensor: the input has "
            f"shape {show(shape)} and the index {show(index)}"
        )
    if any(n > m for i, (n, m) in enumerate(zip(index, shape, strict=True)) if i != dim):
        raise ShapeError(
            f"Expected index {show(index)} to be no larger than self {show(shape)} apart from "
            f"dimension {dim}"
        )


def _gather_array(x: Array, index: Array, dim: int) -> Array:
    check_along(x.shape, index.shape, dim)
    return x.reshape(-1).take(along(x.shape, index, dim))


def _infer_gather(x: Meta, index: Meta, dim: int) -> Meta:
    check_along(x.shape, index.shape, dim)
    return Meta(index.shape, x.dtype)


GATHER = Op(
    "gather",
    "index",
    _gather_array,
    _infer_gather,
    vjp=(
        lambda s, g: SCATTER_ADD(None, s.y, g, dim=s["dim"], shape=s.shapes[0]),
        None,
    ),
    saves="y",
    in_float32=False,
    element=places.gathered,
)


def _add_at(base: Array | None, shape: Shape, positions: Array, values: Array) -> Array:
    """``base`` (zeros if None) with values added at flat positions, repeated ones included."""
    out = np.zeros(shape, values.dtype) if base is None else base.copy(order="C")
    # on flat arrays ufunc.at is several times faster than with a tuple of indices
    np.add.at(out.reshape(-1), positions.reshape(-1), values.reshape(-1))
    return out


def _scatter_add_array(x: Array | None, index: Array, src: Array, dim: int, shape: Shape) -> Array:
    check_along(shape, index.shape, dim)
    return _add_at(x, shape, along(shape, index, dim), src)


def _infer_scatter_add(x: Meta | None, index: Meta, src: Meta, dim: int, shape: Shape) -> Meta:
    check_along(shape, index.shape, dim)
    return Meta(shape, src.dtype)


# inputs: a tensor of ``shape`` (None stands for zeros), the index, and a source of its shape
SCATTER_ADD: Op = Op(
    "scatter_add",
    "index",
    _scatter_add_array,
    _infer_scatter_add,
    vjp=(
        lambda s, g: g,
        None,
        lambda s, g: GATHER(g, s.y, dim=s["dim"]),
    ),
    saves="y",
    sweep=sweep.scatter_add,
)


# --- indexing with tensors ------------------------------------------------------------------------
#
# ``index`` has the positions in one dimension, or, stacked along its first dimension, those in
# several (``dims``, ascending). Results are laid out as in NumPy: the index's dimensions take the
# place of neighbouring ``dims``, and come first when these are apart. ``wrap`` lets positions count
# from the end; without it negative ones are errors.


def _parts(shape: Shape, index: Array, dims: Shape, wrap: bool) -> Sequence[Array]:
    parts = (index,) if len(dims) == 1 else tuple(index)
    if wrap:
        return parts
    return [bounded(part, d, shape[d]) for part, d in zip(parts, dims, strict=True)]


def _key(shape: Shape, index: Array, dims: Shape, wrap: bool) -> tuple[Any, ...]:
    key: list[Any] = [slice(None)] * len(shape)
    for d, part in zip(dims, _parts(shape, index, dims, wrap), strict=True):
        key[d] = part
    return (*key, ...)


def _out_of_bounds(error: IndexError) -> IndexingError:
    return IndexingError(str(error).replace("axis", "dimension"))


def _index_array(x: Array, index: Array, dims: Shape, wrap: bool) -> Array:
    try:
        return np.asarray(x[_key(x.shape, index, dims, wrap)])
    except IndexError as error:
        raise _out_of_bounds(error) from None


def indexed_shape(shape: Shape, index: Shape, dims: Shape) -> Shape:
    """The shape of a tensor's elements at an index over ``dims``."""
    block = index if len(dims) == 1 else index[1:]
    before = dims[0] if _adjacent(dims) else 0
    kept = tuple(n for d, n in enumerate(shape) if d not in dims)
    return (*kept[:before], *block, *kept[before:])


def _index_rule(s: Saved, g: Tensor) -> Tensor:
    return INDEX_ADD(None, s.y, g, shape=s.shapes[0], **s.params)  # type: ignore[no-any-return]


INDEX = Op(
    "index",
    "index",
    _index_array,
    lambda x, index, dims, wrap: Meta(indexed_shape(x.shape, index.shape, dims), x.dtype),
    vjp=(_index_rule, None),
    saves="y",
    in_float32=False,
    element=places.indexed,
)


def wrapped(index: Array, size: int) -> Array:
    return np.where(index < 0, index + size, index)


def _index_add_array(
    x: Array | None, index: Array, value: Array, shape: Shape, dims: Shape, wrap: bool
) -> Array:
    parts = _parts(shape, index, dims, wrap)
    if wrap:
        parts = [
            bounded(wrapped(part, shape[d]), d, shape[d])
            for part, d in zip(parts, dims, strict=True)
        ]
    return _add_at(x, shape, _flat(shape, _spread(shape, dims, parts)), value)


# inputs: a tensor of ``shape`` (None stands for zeros), the index, and what to add there
INDEX_ADD: Op = Op(
    "index_add",
    "index",
    _index_add_array,
    lambda x, index, value, shape, dims, wrap: Meta(shape, value.dtype),
    vjp=(
        lambda s, g: g,
        None,
        lambda s, g: INDEX(g, s.y, dims=s["dims"], wrap=s["wrap"]),
    ),
    saves="y",
    sweep=sweep.index_add,
)


def _index_put_array(x: Array, index: Array, value: Any, dims: Shape, wrap: bool) -> Array:
    return _index_write_array(x.copy(), index, value, dims, wrap)


def _index_write_array(x: Array, index: Array, value: Any, dims: Shape, wrap: bool) -> Array:
    try:
        x[_key(x.shape, index, dims, wrap)] = value
    except IndexError as error:
        raise _out_of_bounds(error) from None
    return x


def _infer_index_put(x: Meta, index: Meta, value: Any, dims: Shape, wrap: bool) -> Meta:
    shape = indexed_shape(x.shape, index.shape, dims)
    if isinstance(value, Meta) and not _broadcasts(value.shape, shape):
        raise ShapeError(
            f"shape mismatch: value tensor of shape {show(value.shape)} cannot be broadcast to "
            f"indexing result of shape {show(shape)}"
        )
    return x


def _broadcasts(given: Shape, shape: Shape) -> bool:
    pairs = zip(reversed(given), reversed(shape), strict=False)
    return len(given) <= len(shape) and all(n in (1, m) for n, m in pairs)


INDEX_PUT: Op = Op(
    "index_put",
    "index",
    _index_put_array,
    _infer_index_put,
    vjp=(
        lambda s, g: INDEX_PUT(g, s.y, 0, dims=s["dims"], wrap=s["wrap"]),
        None,
        lambda s, g: INDEX(g, s.y, dims=s["dims"], wrap=s["wrap"]),
    ),
    saves="y",
    in_float32=False,
    sweep=sweep.index_put,
)
# the same without a copy, where no gradient is wanted
INDEX_WRITE = Op(
    "index_write",
    "index",
    _index_write_array,
    _infer_index_put,
    donates=(0,),
    in_float32=False,
    sweep=sweep.index_put,
)


def _stacked(*parts: Array) -> Array:
    out = np.empty((len(parts), *np.broadcast(*parts).shape), np.int64)
    for row, part in zip(out, parts, strict=True):
        row[...] = part
    return out


INDEX_STACK = Op(
    "index_stack",
    "index",
    _stacked,
    lambda *parts: Meta((len(parts), *_joint_shape(parts)), dt.int64),
    element=places.stacked_positions,
)


def _joint_shape(parts: Sequence[Meta]) -> Shape:
    try:
        return broadcast_shapes(*[part.shape for part in parts])
    except ShapeError:
        shapes = ", ".join(show(part.shape) for part in parts)
        raise IndexingError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}"
        ) from None


# --- functions ------------------------------------------------------------------------------------


def check_index(index: Tensor) -> None:
    if index.dtype not in (dt.int64, dt.int32):
        raise DTypeError(f"Expected dtype int32/int64 for index, got {index.dtype.name}")


def lifted(input: Tensor, dim: int, index: Tensor) -> tuple[Tensor, int, Tensor]:
    """Arguments with at least one dimension, and an index of an integer dtype."""
    check_index(index)
    shape = input._data.shape
    dim = normalize_dim(dim, len(shape))
    if not shape:
        input, shape = reshape(input, (1,)), (1,)
    if 0 in index._data.shape:
        index = reshape(index, (0,) * len(shape))
    elif not index._data.shape:
        index = reshape(index, (1,))
    return input, dim, index


def gather(input: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """``out[i][j] = input[i][index[i][j]]`` for ``dim=1``, likewise for other dims and ranks.

    ``index`` may be smaller than ``input`` outside ``dim``; the result has its shape.
    """
    shape = index._data.shape
    input, dim, index = lifted(input, dim, index)
    found = GATHER(input, index, dim=dim)
    return found if found._data.shape == shape else reshape(found, shape)


def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """``input`` with ``out[i][index[i][j]] += src[i][j]`` for ``dim=1``, and so on."""
    shape = input._data.shape
    base, dim, index = lifted(input, dim, index)
    src = scatter_source(src, input.dtype, index._data.shape)
    found = SCATTER_ADD(base, index, src, dim=dim, shape=base._data.shape)
    return found if found._data.shape == shape else reshape(found, shape)


def scatter_source(src: Tensor, dtype: dt.dtype, index: Shape) -> Tensor:
    """The leading part of ``src`` that an index of this shape reads."""
    if src.dtype is not dtype:
        raise DTypeError(
            "scatter(): Expected self.dtype to be equal to src.dtype, got "
            f"{dtype.name} and {src.dtype.name}"
        )
    if not src._data.shape:
        src = reshape(src, (1,))
    shape = src._data.shape
    if shape == index:
        return src
    if 0 in index:
        return reshape(SLICE(reshape(src, (-1,)), key=(slice(0),)), index)
    if len(shape) != len(index) or any(n > m for n, m in zip(index, shape, strict=True)):
        raise ShapeError(
            f"Expected index {show(index)} to be no larger size than src {show(shape)} in every "
            "dimension"
        )
    return SLICE(src, key=tuple(slice(n) for n in index))  # type: ignore[no-any-return]
