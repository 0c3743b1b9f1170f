"""Expressions over arrays as native code: one loop, by the compiler's own emitter."""

import ctypes
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

import ganglion.dtypes as dt
from ganglion.compiler import llvm
from ganglion.compiler.kernel import packed
from ganglion.compiler.scalars import Emitter
from ganglion.compiler.target import host
from ganglion.compiler.text import LANES, Code, Index, Module, Reg
from ganglion.ops import scalar as sc

HUGE = 1 << 40  # more elements than there ever are
Rule = Callable[..., sc.Scalar]


def compiled(
    rule: Rule, dtypes: Sequence[dt.dtype], width: int = LANES
) -> Callable[..., np.ndarray]:
    """A function of flat arrays that computes ``rule`` for each of their elements."""
    i = sc.index(HUGE)
    e = rule(*(sc.Scalar("load", (k, i), d) for k, d in enumerate(dtypes)))
    library = llvm.load([llvm.compile_text(_text(e, i, dtypes, width), host())])
    kinds = [ctypes.c_void_p] * (len(dtypes) + 1)
    function = ctypes.CFUNCTYPE(None, *kinds, ctypes.c_int64)(library.address("each"))

    def call(*arrays: np.ndarray) -> np.ndarray:
        count = len(arrays[0])
        whole = -(-count // width) * width
        given = [_padded(a, whole) for a in arrays]
        out = np.empty(whole, e.dtype.numpy)
        function(*(a.ctypes.data for a in given), out.ctypes.data, whole)
        return out[:count]

    call.library = library  # type: ignore[attr-defined]  # the code lives as long as the function
    return call


def _padded(a: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([a, np.ones(count - len(a), a.dtype)])


def _text(e: sc.Scalar, i: sc.Scalar, dtypes: Sequence[dt.dtype], width: int) -> str:
    target = host()
    module = Module(target.fma, target.attributes)
    names = [*(f"x{k}" for k in range(len(dtypes))), "out"]
    code = module.function("each", [*(("ptr", n) for n in names), ("i64", "count")])
    *pointers, count = code.parameters
    layouts = [packed(d, (HUGE,)) for d in (*dtypes, e.dtype)]
    sources = dict(enumerate(zip(pointers, layouts, strict=True)))
    code.loop(0, count, width, (), partial(_turn, code, sources, e, i, width))
    code.ret()
    return module.text()


def _turn(
    code: Code, sources: dict, e: sc.Scalar, i: sc.Scalar, width: int, at: Index
) -> list[Reg]:
    emitter = Emitter(code, sources, {i: (at, 0)}, i, width)
    emitter.store(len(sources) - 1, (i,), emitter.value(e))
    return []
