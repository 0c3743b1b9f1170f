"""Movement and indexing functions as methods of tensors."""

from __future__ import annotations

from ganglion.ops import along, index, join, movement, rearrange, subscript, views
from ganglion.ops import diagonal as diagonals
from ganglion.ops import nonzero as masks
from ganglion.ops import scatter as scatters
from ganglion.ops.record import in_place


class Layout:
    """How tensors are seen, copied, cut, joined and indexed."""

    # --- copies
    clone = movement.clone
    contiguous = movement.contiguous
    detach = movement.detach
    detach_ = views.detach_

    # --- shapes
    view = movement.view
    view_as = views.view_as
    reshape = movement.reshape
    reshape_as = views.reshape_as
    flatten = views.flatten
    unflatten = views.unflatten
    ravel = views.ravel
    squeeze = movement.squeeze
    squeeze_ = views.squeeze_
    unsqueeze = movement.unsqueeze
    unsqueeze_ = views.unsqueeze_
    resize_ = views.resize_
    as_strided = views.as_strided
    unfold = views.unfold

    # --- order of dimensions
    permute = movement.permute
    transpose = swapaxes = swapdims = movement.transpose
    transpose_ = swapaxes_ = swapdims_ = views.transpose_
    t = movement.t
    t_ = views.t_
    movedim = moveaxis = views.movedim
    T = property(views.reversed_dims)
    mT = property(views.matrix_transpose)  # noqa: N815 - PyTorch's name

    # --- repetition
    expand = movement.expand
    expand_as = views.expand_as
    broadcast_to = views.broadcast_to
    repeat = rearrange.repeat
    repeat_interleave = rearrange.repeat_interleave
    tile = rearrange.tile

    # --- order of elements
    flip = rearrange.flip
    fliplr = rearrange.fliplr
    flipud = rearrange.flipud
    roll = rearrange.roll
    rot90 = rearrange.rot90

    # --- diagonals and triangles
    diagonal = diagonals.diagonal
    diag = diagonals.diag
    diag_embed = diagonals.diag_embed
    diagflat = diagonals.diagflat
    tril = diagonals.tril
    triu = diagonals.triu
    tril_ = in_place(diagonals.tril)
    triu_ = in_place(diagonals.triu)

    # --- parts
    select = join.select
    narrow = join.narrow
    split = join.split
    split_with_sizes = join.split_with_sizes
    tensor_split = join.tensor_split
    chunk = join.chunk
    hsplit = join.hsplit
    vsplit = join.vsplit
    dsplit = join.dsplit
    unbind = join.unbind

    # --- indexing
    __getitem__ = subscript.getitem
    __setitem__ = subscript.setitem
    index_put = subscript.index_put
    index_put_ = subscript.index_put_
    index_select = along.index_select
    index_add = along.index_add
    index_add_ = in_place(along.index_add)
    index_copy = along.index_copy
    index_copy_ = in_place(along.index_copy)
    index_fill = along.index_fill
    index_fill_ = in_place(along.index_fill)
    gather = index.gather
    scatter = scatters.scatter
    scatter_ = in_place(scatters.scatter)
    scatter_add = index.scatter_add
    scatter_add_ = in_place(index.scatter_add)
    scatter_reduce = scatters.scatter_reduce
    scatter_reduce_ = in_place(scatters.scatter_reduce)
    take = along.take
    take_along_dim = along.take_along_dim
    masked_select = masks.masked_select
    masked_scatter = masks.masked_scatter
    masked_scatter_ = in_place(masks.masked_scatter)
    nonzero = masks.nonzero
    argwhere = masks.argwhere
