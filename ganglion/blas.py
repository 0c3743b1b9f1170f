"""Matrix products through NumPy, on as many BLAS threads as their size deserves.

A second thread halves the time of a product at best; when the other core is busy, the product
waits for it, for milliseconds. So products under ``THREADED_FLOPS``, about half a millisecond of
work, run on one thread and larger ones on all, by their shapes alone: the same program runs the
same code, and gets the same bits, in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ganglion.config import flags, optional
from ganglion.errors import ArgumentError

Array = np.ndarray[Any, Any]

THREADED_FLOPS: Final = 1 << 26


class _Pool:
    """The BLAS threads of this process; found at the first product."""

    def __init__(self) -> None:
        self.setters: list[Callable[[int], None]] | None = None
        self.most = 0  # threads of large products
        self.current = -1  # threads BLAS is set to

    def find(self) -> None:
        """Look BLAS up; its own limit, such as OPENBLAS_NUM_THREADS, is respected."""
        controller = optional("threadpoolctl").ThreadpoolController().select(user_api="blas")
        libraries = controller.lib_controllers
        self.setters = [library.set_num_threads for library in libraries]
        self.most = min([flags.num_threads, *(library.num_threads for library in libraries)])

    def use(self, large: bool) -> None:
        """Prepare for a product."""
        if self.setters is None:
            self.find()
        count = self.most if large else 1
        if count != self.current:
            for setter in self.setters or ():
                setter(count)
            self.current = count


_pool = _Pool()


def get_num_threads() -> int:
    """Threads that large operations use: ``GANGLION_NUM_THREADS``, or the usable cores."""
    if not _pool.most:
        _pool.find()
    return _pool.most


def set_num_threads(count: int) -> None:
    """Set the threads that large operations use."""
    if not isinstance(count, int) or count < 1:
        raise ArgumentError(f"set_num_threads expects a positive integer, got {count!r}")
    get_num_threads()
    _pool.most = count


def matmul(a: Array, b: Array) -> Array:
    """``a @ b`` of arrays with at least two dimensions."""
    m, k = a.shape[-2:]
    large = 2 * m * k * b.shape[-1] >= THREADED_FLOPS
    _pool.use(large)
    if large and not a.flags.c_contiguous:  # OpenBLAS shares out a transposed left side badly
        a = np.ascontiguousarray(a)
    flat = a.ndim == b.ndim == 2  # dot is faster when it is small, or an outer product
    product: Array = a.dot(b) if flat else np.matmul(a, b)
    return product
