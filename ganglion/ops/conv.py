"""Convolution over any number of spatial dimensions, and its two gradients.

The three records are closed under differentiation: each one's gradients are the other two.
Transposed convolution is ``conv_input`` used forward.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops import taps
from ganglion.ops.movement import reshape
from ganglion.ops.record import Op, Saved
from ganglion.ops.reduce import SUM
from ganglion.ops.windows import (
    Array,
    Pairs,
    Sizes,
    batched,
    blocks,
    cells,
    check_least,
    padded,
    reach,
    spread,
    unbatched,
    windows,
)
from ganglion.shapes import Meta, Shape

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

HEAVY: Final = 1 << 24  # FLOP
BLOCK: Final = 1 << 20  # elements of a matrix of windows: a few MB, which caches hold


# --- shapes ---------------------------------------------------------------------------------------


def _places(size: Shape, kernel: Shape, stride: Shape, padding: Pairs, dilation: Shape) -> Shape:
    """How many windows fit along each spatial dimension."""
    extents = zip(size, reach(kernel, dilation), stride, padding, strict=True)
    return tuple([(n + sum(pair) - r) // s + 1 for n, r, s, pair in extents])


def _check_weight(w: Shape, groups: int) -> None:
    if w[0] < groups or w[0] % groups:
        word = "at least" if w[0] < groups else "divisible by"
        raise ShapeError(
            f"Given groups={groups}, expected weight to be {word} {groups} at dimension 0, but got "
            f"weight of size {list(w)} instead"
        )
    if min(w[2:]) < 1:
        raise ShapeError(f"kernel sizes must be at least 1, got weight of size {list(w)}")


def _check_bias(w: Shape, bias: Shape, outs: int) -> None:
    if bias != (outs,):
        raise ShapeError(
            f"Given weight of size {list(w)}, expected bias to be 1-dimensional with {outs} "
            f"elements, but got bias of size {list(bias)} instead"
        )


def _conv_shape(
    x: Shape, w: Shape, stride: Shape, padding: Pairs, dilation: Shape, groups: int
) -> Shape:
    _check_weight(w, groups)
    if x[1] != w[1] * groups:
        raise ShapeError(
            f"Given groups={groups}, weight of size {list(w)}, expected input{list(x)} to have "
            f"{w[1] * groups} channels, but got {x[1]} channels instead"
        )
    out = _places(x[2:], w[2:], stride, padding, dilation)
    if min(out) < 1:
        given = [n + sum(pair) for n, pair in zip(x[2:], padding, strict=True)]
        raise ShapeError(
            f"Calculated padded input size per channel: ({_times(given)}). Kernel size: "
            f"({_times(reach(w[2:], dilation))}). Kernel size can't be greater than actual input "
            "size"
        )
    return x[0], w[0], *out


def _times(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def _input_shape(g: Shape, w: Shape, size: Shape, groups: int, **window: Any) -> Shape:
    _check_weight(w, groups)
    if g[1] != w[0] or _places(size, w[2:], **window) != g[2:]:
        raise ShapeError(
            f"conv_input: a gradient of size {list(g)} does not belong to weight of size {list(w)} "
            f"over an input of size {_times(size)}"
        )
    return g[0], w[1] * groups, *size


def _weight_shape(x: Shape, g: Shape, size: Shape, groups: int, **window: Any) -> Shape:
    if g[0] != x[0] or x[1] % groups or _places(x[2:], size, **window) != g[2:]:
        raise ShapeError(
            f"conv_weight: a gradient of size {list(g)} does not belong to input of size "
            f"{list(x)} and a kernel of size {_times(size)}"
        )
    return g[1], x[1] // groups, *size


# --- kernels: products with a matrix of windows, block by block -----------------------------------
#
# A block's windows are copied into a matrix (groups, channels of a group * kernel, places), so that
# each group is one product. Copying takes a fifth of the product's time.


def _conv_array(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: Shape,
    padding: Pairs,
    dilation: Shape,
    groups: int,
) -> Array:
    shape = _conv_shape(x.shape, w.shape, stride, padding, dilation, groups)
    if _is_pointwise(w.shape[2:], stride, padding):
        y = _pointwise(_rows(w, groups), x).reshape(shape)
        return y if bias is None else np.add(y, _column(bias, y.ndim), out=y)
    y = np.empty(shape, x.dtype)
    seen = windows(padded(x, padding), w.shape[2:], stride, dilation, shape[2:])
    rows = _rows(w, groups)
    for samples, first in blocks(len(x), shape[2:], math.prod(seen.shape[1 : w.ndim]), BLOCK):
        found = blas.matmul(rows, _matrix(_cut(seen, samples, first), groups, w.ndim - 1))
        part = y[samples, :, first]
        found = found.reshape(part.swapaxes(0, 1).shape).swapaxes(0, 1)
        if bias is None:
            part[...] = found
        else:
            np.add(found, _column(bias, y.ndim), out=part)
    return y


def _rows(w: Array, groups: int) -> Array:
    """Weights as one matrix a group: (groups, outputs of a group, inputs of a group * kernel)."""
    return w.reshape(groups, w.shape[0] // groups, math.prod(w.shape[1:]))


def _column(bias: Array, ndim: int) -> Array:
    return bias.reshape(-1, *(1,) * (ndim - 2))


def _is_pointwise(kernel: Shape, stride: Shape, padding: Pairs) -> bool:
    return max(*kernel, *stride) == 1 and not any(map(any, padding))


def _pointwise(rows: Array, x: Array) -> Array:
    """``rows`` (G, M, K) times each sample's channels: (N, G * K, *S) to (N, G, M, S)."""
    groups, _, ins = rows.shape
    return blas.matmul(rows, x.reshape(len(x), groups, ins, math.prod(x.shape[2:])))


def _cut(seen: Array, samples: slice, first: slice) -> Array:
    """A block of ``windows``: some samples, and some of the first spatial dimension's places."""
    dims = (seen.ndim - 2) // 2
    return seen[(samples, *(slice(None),) * (1 + dims), first)]


def _matrix(part: Array, groups: int, lead: int) -> Array:
    """(B, *rows, *places) as (groups, rows of a group, B * places); ``lead`` counts the rows."""
    order = (*range(1, lead + 1), 0, *range(lead + 1, part.ndim))
    rows, places = math.prod(part.shape[1 : lead + 1]), math.prod(part.shape[lead + 1 :])
    return part.transpose(order).reshape(groups, rows // groups, len(part) * places)


def _conv_input_array(
    g: Array,
    w: Array,
    size: Shape,
    stride: Shape,
    padding: Pairs,
    dilation: Shape,
    groups: int,
) -> Array:
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    shape = _input_shape(g.shape, w.shape, size, groups, **window)
    if 0 in shape:
        return np.zeros(shape, g.dtype)
    rows = _rows(w, groups).swapaxes(1, 2)
    if _is_pointwise(w.shape[2:], stride, padding):
        return _pointwise(rows, g).reshape(shape)
    if max(stride) == 1 and g.shape[1] <= 2 * shape[1]:  # to copy g's windows is cheaper then
        around = zip(reach(w.shape[2:], dilation), padding, strict=True)
        pairs = tuple([(r - 1 - before, r - 1 - after) for r, (before, after) in around])
        return _conv_array(g, _turned(w, groups), None, stride, pairs, dilation, groups)
    wide = [n + sum(pair) for n, pair in zip(size, padding, strict=True)]
    total = np.zeros((*shape[:2], *wide), g.dtype)
    seen = windows(total, w.shape[2:], stride, dilation, g.shape[2:])
    for samples, first in blocks(len(g), g.shape[2:], math.prod(seen.shape[1 : w.ndim]), BLOCK):
        columns = blas.matmul(rows, _matrix(g[samples, :, first], groups, 1))
        _fold(_cut(seen, samples, first), columns)
    return padded(total, tuple([(-before, -after) for before, after in padding]))


def _turned(w: Array, groups: int) -> Array:
    """The weight that carries gradients back: input and output channels change places."""
    outs, ins = w.shape[0] // groups, w.shape[1]
    back = (slice(None), slice(None), *(slice(None, None, -1),) * (w.ndim - 2))
    flipped: Array = w[back].reshape(groups, outs, ins, *w.shape[2:])
    return flipped.swapaxes(1, 2).reshape(groups * ins, outs, *w.shape[2:])


def _fold(part: Array, columns: Array) -> None:
    """Add a matrix of windows into the windows it belongs to; they overlap, cells do not."""
    dims = (part.ndim - 2) // 2
    order = (dims + 1, *range(dims + 1), *range(dims + 2, part.ndim))
    shape = part.transpose(*range(1, dims + 2), 0, *range(dims + 2, part.ndim)).shape
    columns = columns.reshape(shape).transpose(order)
    for _, cell in cells(part.shape[2 : 2 + dims]):
        part[cell] += columns[cell]


def _conv_weight_array(
    x: Array,
    g: Array,
    size: Shape,
    stride: Shape,
    padding: Pairs,
    dilation: Shape,
    groups: int,
) -> Array:
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    shape = _weight_shape(x.shape, g.shape, size, groups, **window)
    seen = windows(padded(x, padding), size, stride, dilation, g.shape[2:])
    total = np.zeros((groups, shape[0] // groups, math.prod(shape[1:])), x.dtype)
    for samples, first in blocks(len(g), g.shape[2:], math.prod(seen.shape[1 : x.ndim]), BLOCK):
        columns = _matrix(_cut(seen, samples, first), groups, x.ndim - 1)
        total += blas.matmul(_matrix(g[samples, :, first], groups, 1), columns.swapaxes(1, 2))
    return total.reshape(shape)


# --- records --------------------------------------------------------------------------------------


def _infer_conv(x: Meta, w: Meta, bias: Meta | None, **params: Any) -> Meta:
    shape = _conv_shape(x.shape, w.shape, **params)
    if bias is not None:
        _check_bias(w.shape, bias.shape, w.shape[0])
    return Meta(shape, x.dtype)


def _window(s: Saved) -> dict[str, Any]:
    """The parameters that all three records share."""
    return {name: s[name] for name in ("stride", "padding", "dilation", "groups")}


def _conv_grad_x(s: Saved, g: Tensor) -> Tensor:
    return CONV_INPUT(g, s.y, size=s.shapes[0][2:], **_window(s))  # type: ignore[no-any-return]


def _conv_grad_w(s: Saved, g: Tensor) -> Tensor:
    return CONV_WEIGHT(s.x, g, size=s.shapes[1][2:], **_window(s))  # type: ignore[no-any-return]


def _conv_grad_bias(s: Saved, g: Tensor) -> Tensor:
    dims = (0, *range(2, len(s.shapes[0])))
    return SUM(g, dims=dims, keepdim=False)  # type: ignore[no-any-return]


def _conv_by_parts(x: Tensor, w: Tensor, bias: Tensor | None, **params: Any) -> Tensor:
    product: Tensor = CONV(x, w, None, **params)
    return product if bias is None else product + reshape(bias, (-1, *(1,) * (x.ndim - 2)))


# x (N, C, *S), w (O, C / groups, *K), bias (O,) or None; padding holds (before, after) pairs
CONV: Op = Op(
    "conv",
    "conv",
    _conv_array,
    _infer_conv,
    vjp=(_conv_grad_x, _conv_grad_w, _conv_grad_bias),
    saves=("y", "x", ""),
    decompose=_conv_by_parts,
    heavy=HEAVY,
    element=taps.conv,
    flops=lambda x, w, bias, **params: (
        2 * math.prod(_conv_shape(x.shape, w.shape, **params)) * math.prod(w.shape[1:])
    ),
)
# the gradient of conv for x, whose spatial dimensions are ``size``: g (N, O, *P), w as in conv
CONV_INPUT: Op = Op(
    "conv_input",
    "conv",
    _conv_input_array,
    lambda g, w, **params: Meta(_input_shape(g.shape, w.shape, **params), g.dtype),
    vjp=(
        lambda s, g: CONV(g, s.y, None, **_window(s)),
        lambda s, g: CONV_WEIGHT(g, s.x, size=s.shapes[1][2:], **_window(s)),
    ),
    saves=("y", "x"),
    heavy=HEAVY,
    element=taps.conv_input,
    flops=lambda g, w, **params: 2 * g.numel * math.prod(w.shape[1:]),
)
# the gradient of conv for w, whose kernel has ``size``: x (N, C, *S), g (N, O, *P)
CONV_WEIGHT: Op = Op(
    "conv_weight",
    "conv",
    _conv_weight_array,
    lambda x, g, **params: Meta(_weight_shape(x.shape, g.shape, **params), x.dtype),
    vjp=(
        lambda s, g: CONV_INPUT(s.y, g, size=s.shapes[0][2:], **_window(s)),
        lambda s, g: CONV(s.x, g, None, **_window(s)),
    ),
    saves=("y", "x"),
    heavy=HEAVY,
    element=taps.conv_weight,
    flops=lambda x, g, size, groups, **params: (
        2 * g.numel * (x.shape[1] // groups) * math.prod(size)
    ),
)


# --- public functions -----------------------------------------------------------------------------


def _check_operands(name: str, ndim: int, *operands: Tensor | None) -> None:
    input, weight, bias = operands
    assert input is not None
    assert weight is not None
    for what, x in (("weight", weight), ("bias", bias)):
        if x is not None and x.dtype is not input.dtype:
            raise DTypeError(
                f"Input type ({input.dtype.name}) and {what} type ({x.dtype.name}) should be the "
                "same; convert one with .to(other.dtype)"
            )
    if input.dtype is dt.bool_:
        raise DTypeError(f"{name} of bool tensors is not defined; convert them first")
    if weight.ndim != ndim + 2:
        raise ShapeError(
            f"{name} needs a weight of {ndim + 2} dimensions, but got weight of size "
            f"{list(weight._data.shape)}"
        )


def same_padding(kernel: Shape, stride: Shape, dilation: Shape) -> Pairs:
    """Padding that keeps the size; of an odd amount, the larger part comes after."""
    if max(stride) != 1:
        raise ShapeError("padding='same' is not supported for strided convolutions")
    whole = [r - 1 for r in reach(kernel, dilation)]
    return tuple([(n // 2, n - n // 2) for n in whole])


def _pairs(padding: Sizes | str, kernel: Shape, stride: Shape, dilation: Shape) -> Pairs:
    if padding == "same":
        return same_padding(kernel, stride, dilation)
    if padding == "valid":
        padding = 0
    if isinstance(padding, str):
        raise ShapeError(f"Invalid padding string: {padding!r}; expected 'same' or 'valid'")
    around = spread("padding", padding, len(kernel))
    check_least(0, padding=around)
    return tuple([(n, n) for n in around])


def _convolved(
    name: str,
    ndim: int,
    operands: tuple[Tensor, Tensor, Tensor | None],
    stride: Sizes,
    padding: Sizes | str,
    dilation: Sizes,
    groups: int,
) -> Tensor:
    x, had = batched(name, operands[0], ndim)
    _check_operands(name, ndim, *operands)
    stride, dilation = spread("stride", stride, ndim), spread("dilation", dilation, ndim)
    check_least(1, stride=stride, dilation=dilation, groups=(groups,))
    _, weight, bias = operands
    if bias is not None:
        _check_bias(weight._data.shape, bias._data.shape, weight._data.shape[0])
    pairs = _pairs(padding, weight._data.shape[2:], stride, dilation)
    y = CONV(x, weight, bias, stride=stride, padding=pairs, dilation=dilation, groups=groups)
    return unbatched(y, had)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: (N, C, L) with (O, C / groups, K) gives (N, O, P); N may be missing."""
    return _convolved("conv1d", 1, (input, weight, bias), stride, padding, dilation, groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation: (N, C, H, W) with (O, C / groups, KH, KW) gives (N, O, PH, PW).

    ``padding`` "same" keeps the size; channels of each of the ``groups`` only see each other.
    """
    return _convolved("conv2d", 2, (input, weight, bias), stride, padding, dilation, groups)


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes | str = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of (N, C, D, H, W) with (O, C / groups, KD, KH, KW)."""
    return _convolved("conv3d", 3, (input, weight, bias), stride, padding, dilation, groups)


def _transposed(
    name: str,
    ndim: int,
    operands: tuple[Tensor, Tensor, Tensor | None],
    *sizes: Sizes,
    groups: int,
) -> Tensor:
    x, had = batched(name, operands[0], ndim)
    _check_operands(name, ndim, *operands)
    named = zip(("stride", "padding", "output_padding", "dilation"), sizes, strict=True)
    stride, padding, extra, dilation = (spread(what, n, ndim) for what, n in named)
    check_least(1, stride=stride, dilation=dilation, groups=(groups,))
    check_least(0, padding=padding, output_padding=extra)
    _, weight, bias = operands
    shape, w = x._data.shape, weight._data.shape
    _check_transposed(shape, w, groups)
    size = _transposed_size(shape[2:], w[2:], stride, padding, extra, dilation)
    # where more is added than a stride, the windows do not reach it: it is no padding of theirs
    parts = zip(padding, extra, stride, strict=True)
    pairs = tuple([(n, n if more < step else n - more) for n, more, step in parts])
    y: Tensor = CONV_INPUT(
        x, weight, size=size, stride=stride, padding=pairs, dilation=dilation, groups=groups
    )
    if bias is not None:
        _check_bias(w, bias._data.shape, w[1] * groups)
        y = y + reshape(bias, (-1, *(1,) * ndim))
    return unbatched(y, had)


def _check_transposed(x: Shape, w: Shape, groups: int) -> None:
    _check_weight(w, groups)
    if x[1] != w[0]:
        raise ShapeError(
            f"Given transposed=1, weight of size {list(w)}, expected input{list(x)} to have "
            f"{w[0]} channels, but got {x[1]} channels instead"
        )


def _transposed_size(
    size: Shape, kernel: Shape, stride: Shape, padding: Shape, extra: Shape, dilation: Shape
) -> Shape:
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise ShapeError(
            "output padding must be smaller than either stride or dilation, but got "
            f"output_padding={extra}, stride={stride}, dilation={dilation}"
        )
    parts = zip(size, reach(kernel, dilation), stride, padding, extra, strict=True)
    out = tuple([(n - 1) * s - 2 * p + r + e for n, r, s, p, e in parts])
    if min(out) < 0:
        raise ShapeError(
            f"Given input size per channel: ({_times(size)}). Calculated output size per channel: "
            f"({_times(out)}). Output size is too small"
        )
    return out


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of ``conv1d``: (N, C, L) with (C, O / groups, K) gives (N, O, P)."""
    sizes = stride, padding, output_padding, dilation
    return _transposed("conv_transpose1d", 1, (input, weight, bias), *sizes, groups=groups)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of ``conv2d``: (N, C, H, W) with (C, O / groups, KH, KW) gives (N, O, PH, PW).

    P is ``(H - 1) * stride - 2 * padding + dilation * (K - 1) + output_padding + 1``.
    """
    sizes = stride, padding, output_padding, dilation
    return _transposed("conv_transpose2d", 2, (input, weight, bias), *sizes, groups=groups)


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Tensor:
    """The transpose of ``conv3d``, of (N, C, D, H, W) with (C, O / groups, KD, KH, KW)."""
    sizes = stride, padding, output_padding, dilation
    return _transposed("conv_transpose3d", 3, (input, weight, bias), *sizes, groups=groups)
