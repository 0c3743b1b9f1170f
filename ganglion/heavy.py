"""Heavy calls of eager execution run on compiled kernels; all others run on NumPy's.

Which ones are heavy follows from the op, its parameters, shapes and dtypes alone, never from what
was called before: so a program has the same bits in every run, and a resumed one those of one that
was never stopped. The compiler stands on a higher floor and takes its place in ``maker``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import ganglion.dtypes as dt
from ganglion.config import flags
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.ops.record import Op

Array = np.ndarray[Any, Any]
Kernel = Callable[[Sequence[Array]], Any]  # the op's results; None if it cannot run just now
Maker = Callable[["Op", Sequence[Meta | None], Mapping[str, Any]], Kernel | None]

LIMIT: Final = 1024  # kinds of calls that are remembered


def _no_compiler(op: Op, metas: Sequence[Meta | None], params: Mapping[str, Any]) -> None:
    """The maker until there is one."""


maker: Maker = _no_compiler
share = 1.0  # of an op's ``heavy`` that is enough; tests lower it
_known: dict[Hashable, Kernel | None] = {}


def run(op: Op, arrays: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """The results of a call by its compiled kernel; None where NumPy is to compute them."""
    given = [None if a is None else (a.shape, a.dtype) for a in arrays]
    key = (op, *given, *params.items())
    try:
        kernel = _known[key]
    except KeyError:
        kernel = _decided(key, op, arrays, params)
    if kernel is None or not _allowed():
        return None
    return kernel([a for a in arrays if a is not None])


def forget() -> None:
    """Let go of all kernels; what is on disk stays."""
    _known.clear()


def _allowed() -> bool:
    return flags.eager_kernels and flags.compiler == "native"


def _decided(
    key: Hashable, op: Op, arrays: Sequence[Any], params: Mapping[str, Any]
) -> Kernel | None:
    metas = [None if a is None else Meta(a.shape, dt.of_numpy(a.dtype)) for a in arrays]
    if not _is_heavy(op, metas, params):
        kernel = None
    elif _allowed():
        kernel = maker(op, metas, params)
    else:
        return None
    if len(_known) >= LIMIT:
        forget()
    _known[key] = kernel
    return kernel


def _is_heavy(op: Op, metas: Sequence[Meta | None], params: Mapping[str, Any]) -> bool:
    """Whether NumPy would need more than about half a millisecond."""
    floats = {m.dtype for m in metas if m is not None and m.dtype.is_floating_point}
    if not floats or not floats <= {dt.float32, dt.float64}:
        return False
    results = op.infer(*metas, **params)
    first = results[0] if op.outputs > 1 else results
    work = first.numel if op.flops is None else op.flops(*metas, **params)
    return bool(work >= share * op.heavy)
