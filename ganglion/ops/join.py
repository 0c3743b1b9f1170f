"""Joining tensors and cutting them apart; each is the other's gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.errors import ArgumentTypeError, IndexingError, ShapeError
from ganglion.ops import places
from ganglion.ops.movement import SLICE, reshape, slice_dim
from ganglion.ops.record import Op, Saved, into
from ganglion.ops.views import atleast_1d, atleast_2d, atleast_3d
from ganglion.shapes import Meta, Shape, normalize_dim, show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
Sizes = int | Sequence[int]
Tensors = Sequence["Tensor"]


def _at(dim: int, key: int | slice) -> dict[str, Any]:
    return {"key": (*(slice(None),) * dim, key)}


def _part(params: Mapping[str, Any], i: int) -> tuple[Op, Mapping[str, Any]]:
    dim, sizes = params["dim"], params["sizes"]
    start = sum(sizes[:i])
    return SLICE, _at(dim, slice(start, start + sizes[i]))


def _split_array(x: Array, dim: int, sizes: Shape) -> tuple[Array, ...]:
    lead, start, parts = (slice(None),) * dim, 0, []
    for size in sizes:
        parts.append(x[(*lead, slice(start, start + size))])
        start += size
    return tuple(parts)


def _resized(x: Meta, dim: int, size: int) -> Meta:
    return Meta((*x.shape[:dim], size, *x.shape[dim + 1 :]), x.dtype)


SPLIT = Op(
    "split",
    "view",
    _split_array,
    lambda x, dim, sizes: tuple(_resized(x, dim, n) for n in sizes),
    vjp=lambda s, *grads: (CAT(*grads, dim=s["dim"]),),
    outputs=2,  # or any other number: always a tuple
    view=True,
    part=_part,
    in_float32=False,
)
UNBIND = Op(
    "unbind",
    "view",
    lambda x, dim: tuple(x[(*(slice(None),) * dim, i, ...)] for i in range(x.shape[dim])),
    lambda x, dim: (Meta(x.shape[:dim] + x.shape[dim + 1 :], x.dtype),) * x.shape[dim],
    vjp=lambda s, *grads: (STACK(*grads, dim=s["dim"]),),
    outputs=2,
    view=True,
    part=lambda params, i: (SLICE, _at(params["dim"], i)),
    in_float32=False,
)


def _is_skipped(shape: Shape) -> bool:
    """Empty 1-d tensors fit anything, as they always did in PyTorch."""
    return shape == (0,)


def _cat_array(*xs: Array, dim: int) -> Array:
    joined = [x for x in xs if not _is_skipped(x.shape)]
    return np.concatenate(joined, axis=dim) if joined else np.empty(0, xs[0].dtype)


def _infer_cat(*xs: Meta, dim: int) -> Meta:
    joined = [x for x in xs if not _is_skipped(x.shape)]
    if not joined:
        return xs[0]
    first = joined[0].shape
    for i, x in enumerate(joined):
        same = len(x.shape) == len(first) and all(
            n == m for d, (n, m) in enumerate(zip(x.shape, first, strict=True)) if d != dim
        )
        if not same:
            raise ShapeError(
                f"Sizes of tensors must match except in dimension {dim}: tensor {i} has shape "
                f"{show(x.shape)}, the first one {show(first)}"
            )
    return _resized(joined[0], dim, sum(x.shape[dim] for x in joined))


def _cat_rule(s: Saved, g: Tensor) -> Sequence[Tensor | None]:
    dim = s["dim"]
    joined = [not _is_skipped(shape) for shape in s.shapes]
    sizes = tuple(n[dim] if there else 0 for n, there in zip(s.shapes, joined, strict=True))
    parts = SPLIT(g, dim=dim, sizes=sizes)
    return [part if there else None for part, there in zip(parts, joined, strict=True)]


CAT: Op = Op(
    "cat",
    "movement",
    _cat_array,
    _infer_cat,
    vjp=_cat_rule,
    promote="same",
    in_float32=False,
    element=places.concatenated,
)


def _infer_stack(*xs: Meta, dim: int) -> Meta:
    first = xs[0].shape
    for i, x in enumerate(xs):
        if x.shape != first:
            raise ShapeError(
                f"stack expects each tensor to be equal size, but got {show(first)} at entry 0 and "
                f"{show(x.shape)} at entry {i}"
            )
    return Meta((*first[:dim], len(xs), *first[dim:]), xs[0].dtype)


STACK: Op = Op(
    "stack",
    "movement",
    lambda *xs, dim: np.stack(xs, axis=dim),
    _infer_stack,
    vjp=lambda s, g: UNBIND(g, dim=s["dim"]),
    promote="same",
    in_float32=False,
    element=places.stacked,
)


# --- joining --------------------------------------------------------------------------------------


def _listed(tensors: Tensors, name: str) -> list[Tensor]:
    if hasattr(tensors, "_data"):
        raise ArgumentTypeError(
            f"{name}(): argument 'tensors' must be tuple of Tensors, not Tensor"
        )
    found = list(tensors)
    if not found:
        raise ShapeError(f"{name}(): expected a non-empty list of Tensors")
    for i, x in enumerate(found):
        if not hasattr(x, "_data"):
            raise ArgumentTypeError(
                f"{name}(): expected Tensor as element {i} of argument 'tensors', but got "
                f"{type(x).__name__}"
            )
    return found


def cat(tensors: Tensors, dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors one after the other along an existing dimension, in their common dtype."""
    found = _listed(tensors, "cat")
    for i, x in enumerate(found):
        if not x._data.shape:
            raise ShapeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    ndim = next((x.ndim for x in found if not _is_skipped(x._data.shape)), 1)
    return into(out, CAT(*found, dim=normalize_dim(dim, ndim)))


concat = concatenate = cat


def stack(tensors: Tensors, dim: int = 0, *, out: Tensor | None = None) -> Tensor:
    """Tensors of one shape along a new dimension."""
    found = _listed(tensors, "stack")
    return into(out, STACK(*found, dim=normalize_dim(dim, found[0].ndim + 1)))


def hstack(tensors: Tensors, *, out: Tensor | None = None) -> Tensor:
    """Tensors side by side: along dimension 1, or 0 if they have one dimension."""
    found = [atleast_1d(x) for x in _listed(tensors, "hstack")]
    return cat(found, 0 if found[0].ndim == 1 else 1, out=out)


def vstack(tensors: Tensors, *, out: Tensor | None = None) -> Tensor:
    """Tensors one below the other; 1-d tensors are rows."""
    return cat([atleast_2d(x) for x in _listed(tensors, "vstack")], 0, out=out)


row_stack = vstack


def dstack(tensors: Tensors, *, out: Tensor | None = None) -> Tensor:
    """Tensors along the third dimension."""
    return cat([atleast_3d(x) for x in _listed(tensors, "dstack")], 2, out=out)


def column_stack(tensors: Tensors, *, out: Tensor | None = None) -> Tensor:
    """Tensors side by side; those of at most one dimension are columns."""
    found = [reshape(x, (-1, 1)) if x.ndim < 2 else x for x in _listed(tensors, "column_stack")]
    return cat(found, 1, out=out)


# --- cutting --------------------------------------------------------------------------------------


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """A view of one position along ``dim``, which disappears."""
    if not input.ndim:
        raise IndexingError("select() cannot be applied to a 0-dim tensor.")
    return slice_dim(input, normalize_dim(dim, input.ndim), index)


def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A view of ``length`` positions along ``dim``, from ``start``."""
    if not input.ndim:
        raise ShapeError("narrow() cannot be applied to a 0-dim tensor.")
    at = normalize_dim(dim, input.ndim)
    size = input._data.shape[at]
    if not -size <= start <= size:
        raise IndexingError(
            f"start out of range (expected to be in range of [{-size}, {size}], but got {start})"
        )
    start = start + size if start < 0 else start
    if length < 0 or start + length > size:
        raise ShapeError(
            f"start ({start}) + length ({length}) exceeds dimension size ({size})"
            if length >= 0
            else "narrow(): length must be non-negative."
        )
    return slice_dim(input, at, slice(start, start + length))


def _cuttable(input: Tensor, dim: int, name: str) -> int:
    if not input.ndim:
        raise ShapeError(f"{name} expects at least a 1-dimensional tensor")
    return normalize_dim(dim, input.ndim)


def split(tensor: Tensor, split_size_or_sections: Sizes, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts: all of one size (the last may be smaller), or of these sizes."""
    if not isinstance(split_size_or_sections, int):
        return split_with_sizes(tensor, split_size_or_sections, dim)
    at, size = _cuttable(tensor, dim, "split"), split_size_or_sections
    length = tensor._data.shape[at]
    if size < 0 or (size == 0 and length):
        raise ShapeError(f"split expects split_size be positive, got split_size={size}")
    sizes = (size,) * (length // size) if size else ()
    rest = length - sum(sizes)
    if rest or not sizes:
        sizes = (*sizes, rest)
    return SPLIT(tensor, dim=at, sizes=sizes)  # type: ignore[no-any-return]


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Views of consecutive parts of these sizes."""
    at = _cuttable(input, dim, "split_with_sizes")
    sizes, length = tuple(split_sizes), input._data.shape[at]
    if min(sizes, default=0) < 0 or sum(sizes) != length:
        raise ShapeError(
            "split_with_sizes expects split_sizes to have only non-negative entries that sum "
            f"exactly to {length} (input tensor's size at dimension {at}), but got {list(sizes)}"
        )
    return SPLIT(input, dim=at, sizes=sizes)  # type: ignore[no-any-return]


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of at most ``chunks`` parts of equal size; the last may be smaller."""
    at = _cuttable(input, dim, "chunk")
    if chunks <= 0:
        raise ShapeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    length = input._data.shape[at]
    if length == 0:
        return SPLIT(input, dim=at, sizes=(0,) * chunks)  # type: ignore[no-any-return]
    return split(input, -(-length // chunks), at)


def tensor_split(
    input: Tensor, indices_or_sections: int | Sequence[int] | Tensor, dim: int = 0
) -> tuple[Tensor, ...]:
    """Views of parts: a number of nearly equal ones, or cut at these indices."""
    at = _cuttable(input, dim, "tensor_split")
    length = input._data.shape[at]
    cuts: Any = indices_or_sections
    if hasattr(cuts, "tolist"):
        cuts = cuts.tolist()
    if isinstance(cuts, int):
        if cuts <= 0:
            raise ShapeError(f"number of sections must be larger than 0, got {cuts}")
        small, larger = divmod(length, cuts)
        sizes = (small + 1,) * larger + (small,) * (cuts - larger)
        return SPLIT(input, dim=at, sizes=sizes)  # type: ignore[no-any-return]
    bounds = zip((0, *cuts), (*cuts, length), strict=True)
    return tuple(slice_dim(input, at, slice(start, end)) for start, end in bounds)


def _split_along(name: str, least: int, dim: int) -> Callable[..., tuple[Tensor, ...]]:
    def function(input: Tensor, indices_or_sections: Sizes) -> tuple[Tensor, ...]:
        if input.ndim < least:
            raise ShapeError(f"{name} requires a tensor with at least {least} dimension(s)")
        at = 0 if input.ndim == 1 else dim
        length, cuts = input._data.shape[at], indices_or_sections
        if isinstance(cuts, int) and (cuts <= 0 or length % cuts):
            raise ShapeError(
                f"{name} attempted to split along dimension {at}, but the size of the dimension "
                f"{length} is not divisible by the split_size {cuts}!"
            )
        return tensor_split(input, cuts, at)

    function.__name__ = name
    function.__doc__ = f"``tensor_split`` along dimension {dim}, into equal parts."
    return function


hsplit = _split_along("hsplit", 1, 1)
vsplit = _split_along("vsplit", 2, 0)
dsplit = _split_along("dsplit", 3, 2)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """Views of every position along ``dim``, which disappears."""
    if not input.ndim:
        raise IndexingError("Dimension specified as 0 but tensor has no dimensions")
    return UNBIND(input, dim=normalize_dim(dim, input.ndim))  # type: ignore[no-any-return]
