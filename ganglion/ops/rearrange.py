"""Elements in another order or repeated: flips, rolls, rotations, tiles, grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.errors import ArgumentError, ShapeError
from ganglion.ops import places
from ganglion.ops.along import index_select
from ganglion.ops.join import stack
from ganglion.ops.movement import clone, expand, reshape, transpose, unsqueeze
from ganglion.ops.record import Op
from ganglion.shapes import Shape, normalize_dim, normalize_dims, show, size_args

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Sizes = int | Sequence[int]


# --- flips and rolls ------------------------------------------------------------------------------


def _flip_array(x: Array, dims: Shape) -> Array:
    key = tuple(slice(None, None, -1 if i in dims else 1) for i in range(x.ndim))
    return x[key].copy()


FLIP: Op = Op(
    "flip",
    "movement",
    _flip_array,
    lambda x, dims: x,
    vjp=(lambda s, g: FLIP(g, dims=s["dims"]),),
    in_float32=False,
    element=places.flipped,
)
ROLL: Op = Op(
    "roll",
    "movement",
    np.roll,
    lambda x, shift, axis: x,
    vjp=(lambda s, g: ROLL(g, shift=tuple(-n for n in s["shift"]), axis=s["axis"]),),
    in_float32=False,
    element=places.rolled,
)


def flip(input: Tensor, *along: Any, dims: Sequence[int] | None = None) -> Tensor:
    """A copy with the order of elements reversed along ``dims``."""
    wanted = size_args(along or (dims,))
    return FLIP(input, dims=normalize_dims(wanted, input.ndim) if wanted else ())  # type: ignore[no-any-return]


def fliplr(input: Tensor) -> Tensor:
    """Columns in reverse order."""
    if input.ndim < 2:
        raise ShapeError(f"Input must be >= 2-d, got shape {show(input.shape)}.")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Rows in reverse order."""
    if input.ndim < 1:
        raise ShapeError("Input must be >= 1-d, got a 0-d tensor.")
    return flip(input, 0)


def roll(input: Tensor, shifts: Sizes, dims: Sizes | None = None) -> Tensor:
    """Elements shifted cyclically along ``dims`` (of the flattened tensor when None)."""
    moves = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    along = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if not along and len(moves) == 1:
        return reshape(ROLL(reshape(input, -1), shift=moves, axis=(0,)), input._data.shape)
    if len(moves) != len(along) or not moves:
        raise ShapeError(
            f"shifts and dimensions must align. shifts: {len(moves)}, dims: {len(along)}"
        )
    dims = tuple(normalize_dim(d, input.ndim) for d in along)
    return ROLL(input, shift=moves, axis=dims)  # type: ignore[no-any-return]


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """A copy turned ``k`` times by 90 degrees, from the first of ``dims`` towards the second."""
    if len(dims) != 2:
        raise ShapeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2:
        raise ShapeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (normalize_dim(d, input.ndim) for d in dims)
    if a == b:
        raise ShapeError(f"expected rotation dims to be different, but got {tuple(dims)}")
    if k % 4 == 1:
        return clone(transpose(flip(input, b), a, b))
    if k % 4 == 3:
        return clone(transpose(flip(input, a), a, b))
    return flip(input, a, b) if k % 4 else clone(input)


# --- repeating ------------------------------------------------------------------------------------


def repeat(input: Tensor, *sizes: Any, repeats: Sequence[int] | None = None) -> Tensor:
    """Copies side by side, ``repeats[i]`` times along dimension i; more of them add dimensions."""
    times = size_args(sizes or (repeats,))
    shape = input._data.shape
    if len(times) < len(shape):
        raise ShapeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of "
            f"tensor: got {show(times)} for shape {show(shape)}"
        )
    if min(times, default=0) < 0:
        raise ShapeError(f"Trying to create tensor with negative dimension: repeats {show(times)}")
    shape = (1,) * (len(times) - len(shape)) + shape
    apart = tuple(m for n in shape for m in (1, n))
    grown = tuple(m for k, n in zip(times, shape, strict=True) for m in (k, n))
    whole = tuple(k * n for k, n in zip(times, shape, strict=True))
    return reshape(clone(expand(reshape(input, apart), grown)), whole)


def tile(input: Tensor, *times: Any, dims: Sequence[int] | None = None) -> Tensor:
    """``repeat`` with ones put before ``dims`` where the tensor has more dimensions."""
    wanted = size_args(times or (dims,))
    return repeat(input, (1,) * (input.ndim - len(wanted)) + wanted)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates: every vector expanded over the dimensions of all others."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f'indexing must be one of "xy" or "ij", but received: {indexing!r}')
    for x in tensors:
        if x.ndim > 1:
            raise ShapeError(f"Expected 0D or 1D tensor in the tensor list but got: {x.shape}")
    swap = indexing == "xy" and len(tensors) > 1
    vectors = [reshape(x, -1) for x in tensors]
    if swap:
        vectors[:2] = vectors[1::-1]
    shape = tuple(x._data.shape[0] for x in vectors)
    last = len(vectors) - 1
    grids = [expand(reshape(x, (-1, *(1,) * (last - i))), shape) for i, x in enumerate(vectors)]
    if swap:
        grids[:2] = grids[1::-1]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """All combinations of the vectors' elements, as rows."""
    if len(tensors) == 1:
        return tensors[0]
    return stack([reshape(grid, -1) for grid in meshgrid(*tensors)], 1)


# a position for every copy; how many there are depends on the values
REPEAT_POSITIONS = Op(
    "repeat_positions",
    "index",
    lambda repeats: np.repeat(np.arange(repeats.size), repeats),
    lambda repeats: repeats,
    runs="eager-only",
)


def repeat_interleave(
    input: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Every element (or slice along ``dim``) repeated in place, a number or one each."""
    if dim is None:
        input, dim = reshape(input, -1), 0
    at = normalize_dim(dim, input.ndim)
    shape = input._data.shape
    if isinstance(repeats, int):
        if repeats < 0:
            raise ShapeError(f"Repeats must be non-negative, got {repeats}")
        grown = expand(unsqueeze(input, at + 1), (*shape[: at + 1], repeats, *shape[at + 1 :]))
        return reshape(clone(grown), (*shape[:at], shape[at] * repeats, *shape[at + 1 :]))
    if repeats.ndim == 0 or repeats._data.shape == (1,):
        repeats = expand(reshape(repeats, 1), shape[at])
    if repeats._data.shape != (shape[at],):
        raise ShapeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = "
            f"{show(repeats.shape)} and input.size({at}) = {shape[at]}"
        )
    return index_select(input, at, REPEAT_POSITIONS(repeats))
