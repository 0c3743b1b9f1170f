"""Tensor: data, storage and history, with the ops as methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

import ganglion.dtypes as dt
from ganglion import convert, printing
from ganglion.errors import ArgumentTypeError
from ganglion.history import History
from ganglion.ops import counting, create, moments, reduce, scan
from ganglion.ops import matmul as products
from ganglion.ops import random as draws
from ganglion.ops import softmax as shares
from ganglion.ops import sort as sorting
from ganglion.ops.layout import Layout
from ganglion.ops.operators import Elementwise
from ganglion.ops.record import in_place
from ganglion.shapes import Size
from ganglion.storage import CPU, Storage, View, device

if TYPE_CHECKING:
    from ganglion.autograd.tape import Node


class _Engine:
    """What the autograd module fills in."""

    backward: Callable[..., None]
    grad: Callable[..., tuple[Tensor | None, ...]]
    edge: Callable[[Tensor], Any]


class Tensor(History, convert.Casts, Elementwise, Layout):
    """An n-dimensional array that knows how it was computed.

    ``_data`` is the array (or, while tracing, a graph value), ``_storage`` the memory shared with
    views, ``_edge`` the tape node that made it, ``_leaf`` whether it is a leaf wanting gradients.
    """

    _data: Any
    _storage: Storage
    _edge: tuple[Node, int] | None = None
    _leaf = False
    _view: View | None = None
    _hooks: dict[int, Callable[..., Any]] | None = None
    _post_hooks: dict[int, Callable[..., Any]] | None = None
    _grad: Tensor | None = None
    _spent = False  # whether a compiled step has used up the gradient
    _engine = _Engine()
    __array_ufunc__ = None  # NumPy operators give way to ours

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        made = object.__new__(cls)
        made._data, made._storage = np.empty(0, dt.get_default_dtype().numpy), Storage()
        return made

    def __init__(self, *args: Any) -> None:
        """``Tensor(data)`` copies data as the default dtype; ``Tensor(2, 3)`` is uninitialised."""
        d = dt.get_default_dtype().numpy
        if all(isinstance(a, int) for a in args):
            self._data = np.empty(args or (0,), d)
        elif len(args) == 1:
            source = args[0]
            self._data = np.array(source._data if isinstance(source, Tensor) else source, d)
        else:
            raise ArgumentTypeError(f"Tensor() takes one sequence or several sizes, got {args}")

    # --- what it is ---------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        """Sizes of the dimensions."""
        return Size(self._data.shape)

    @property
    def dtype(self) -> dt.dtype:
        """The element type."""
        return dt.of_numpy(self._data.dtype)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._data.shape)

    @property
    def device(self) -> device:
        """Where it lives: always ``cpu``."""
        return CPU

    # --- what it can be turned into -------------------------------------------------------------

    item = convert.item
    tolist = convert.tolist
    numpy = convert.numpy
    to = convert.to
    type = convert.type_
    type_as = convert.type_as
    cpu = convert.cpu
    cuda = convert.cuda
    __float__ = convert.as_float
    __int__ = convert.as_int
    __bool__ = convert.as_bool
    __index__ = convert.as_index
    __array__ = convert.as_array
    __array_priority__ = 1000
    __dlpack__ = convert.as_dlpack
    __dlpack_device__ = convert.dlpack_device
    __len__ = convert.length
    __iter__ = convert.iterate
    __contains__ = convert.contains
    __hash__ = object.__hash__
    __copy__ = convert.copy_tensor
    __deepcopy__ = convert.deepcopy_tensor
    __reduce__ = convert.reduce_tensor
    __repr__ = printing.show_tensor
    __format__ = printing.format_tensor

    # --- layout and size

    size = convert.size
    stride = convert.stride
    dim = ndimension = convert.dim
    numel = nelement = convert.numel
    is_contiguous = convert.is_contiguous
    data_ptr = convert.data_ptr
    storage_offset = convert.storage_offset
    element_size = convert.element_size
    get_device = convert.get_device
    is_floating_point = convert.is_floating_point
    is_complex = convert.is_complex
    is_signed = convert.is_signed
    is_nonzero = convert.is_nonzero
    is_same_size = convert.is_same_size
    itemsize = property(convert.element_size)
    nbytes = property(lambda self: self.numel() * self.element_size())
    is_cuda = False

    # --- sums, extremes, truth

    sum = reduce.sum
    nansum = reduce.nansum
    mean = reduce.mean
    nanmean = reduce.nanmean
    prod = reduce.prod
    count_nonzero = reduce.count_nonzero
    amax = reduce.amax
    amin = reduce.amin
    aminmax = reduce.aminmax
    argmax = reduce.argmax
    argmin = reduce.argmin
    max = reduce.max
    min = reduce.min
    all = reduce.all
    any = reduce.any

    # --- moments and norms

    var = moments.var
    std = moments.std
    logsumexp = moments.logsumexp
    softmax = shares.softmax
    log_softmax = shares.log_softmax
    norm = moments.norm

    # --- running sums and extremes

    cumsum = scan.cumsum
    cumprod = scan.cumprod
    logcumsumexp = scan.logcumsumexp
    cummax = scan.cummax
    cummin = scan.cummin
    diff = scan.diff
    cumsum_ = in_place(scan.cumsum)
    cumprod_ = in_place(scan.cumprod)

    # --- order

    sort = sorting.sort
    argsort = sorting.argsort
    msort = sorting.msort
    topk = sorting.topk
    kthvalue = sorting.kthvalue
    median = sorting.median
    nanmedian = sorting.nanmedian
    mode = sorting.mode
    quantile = sorting.quantile
    nanquantile = sorting.nanquantile

    # --- counting

    unique = counting.unique
    unique_consecutive = counting.unique_consecutive
    bincount = counting.bincount
    histc = counting.histc

    # --- matrix products
    matmul = products.matmul
    mm = products.mm
    bmm = products.bmm
    mv = products.mv
    dot = products.dot
    vdot = products.vdot
    inner = products.inner
    outer = products.outer
    ger = products.ger
    kron = products.kron
    addmm = products.addmm
    addmv = products.addmv
    baddbmm = products.baddbmm
    addmm_ = in_place(products.addmm)
    addmv_ = in_place(products.addmv)
    baddbmm_ = in_place(products.baddbmm)
    __matmul__ = products.matmul
    __rmatmul__ = products.rmatmul
    __imatmul__ = in_place(products.matmul)

    # --- filled with random values
    uniform_ = draws.uniform_
    normal_ = draws.normal_
    random_ = draws.random_
    bernoulli_ = draws.bernoulli_
    exponential_ = draws.exponential_
    log_normal_ = draws.log_normal_
    cauchy_ = draws.cauchy_
    geometric_ = draws.geometric_
    bernoulli = draws.bernoulli
    multinomial = draws.multinomial

    # --- creation in this tensor's dtype
    new_empty = create.new_empty
    new_full = create.new_full
    new_ones = create.new_ones
    new_zeros = create.new_zeros
    new_tensor: Callable[..., Tensor]  # set in creation.py, which knows how to read data


_new = object.__new__


def wrap(data: Any) -> Tensor:
    """A tensor over an array (or graph value) without copying."""
    made = _new(Tensor)
    made._data = data
    made._storage = Storage()
    return made


def ones_like(x: Tensor) -> Tensor:
    return wrap(np.ones(x._data.shape, x.dtype.numpy))


def zeros(shape: Any, dtype: Any) -> Tensor:
    return wrap(np.zeros(shape, dt.as_dtype(dtype).numpy))
