"""Runs every call twice: the eager kernel, and the record's expression evaluated with NumPy."""

from typing import Any, Self

import numpy as np

import ganglion.dtypes as dt
from ganglion import eager
from ganglion.dispatch import mode
from ganglion.ops import scalar as sc
from ganglion.ops.record import Op
from ganglion.tensor import Tensor
from tests.ops.checker import ATOL, RTOL

ROUGH = {"random_normal": 8}  # ops that may differ by so much more


class Operand:
    """An input as ``element`` rules see it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape
        self.dtype = dt.of_numpy(array.dtype)

    def __call__(self, *index: sc.Scalar | int) -> sc.Scalar:
        assert len(index) == len(self.shape), f"{len(index)} indexes for {self.shape}"
        places = [sc.const(i, sc.INDEX) if isinstance(i, int) else i for i in index]
        return sc.Scalar("load", (self, *places), self.dtype)


class Compared(eager.Eager):
    """Listens to calls; ``seen`` are the ops that were compared."""

    def __init__(self, tolerance: float = 1) -> None:
        super().__init__()
        self.tolerance, self.seen = tolerance, set[str]()

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Any) -> Any:
        inputs = eager.promoted(op, inputs)
        expected = None if op.donates else super().bind(op, inputs, params)
        if op.runs == "eager-only" or (op.scalar is None and op.element is None):
            return super().bind(op, inputs, params) if op.donates else expected
        arrays = [x._data.copy() if isinstance(x, Tensor) else x for x in inputs]
        if op.donates:
            expected = super().bind(op, inputs, params)
        outs = expected if isinstance(expected, tuple) else (expected,)
        for number, out in enumerate(outs):
            self.compare(op, arrays, params, number, out)
        return expected

    def compare(self, op: Op, arrays: list[Any], params: Any, number: int, out: Tensor) -> None:
        try:
            found = meaning(op, arrays, params, out._data.shape, out.dtype, number)
        except sc.NoRule:
            return
        self.seen.add(op.name)
        self.assert_close(op, found, out)

    def assert_close(self, op: Op, found: np.ndarray, out: Tensor) -> None:
        name = out.dtype.name
        times = self.tolerance * ROUGH.get(op.name, 1)
        rtol, atol = (t.get(name, 0) * times for t in (RTOL, ATOL))
        pair = [a.astype(np.float64) if out.dtype in dt.HALVES else a for a in (found, out._data)]
        if np.size(found):
            np.testing.assert_allclose(*pair, rtol, atol, err_msg=f"the meaning of {op.name}")

    def __enter__(self) -> Self:
        self._previous, mode.listener = mode.listener, self
        return self

    def __exit__(self, *exc: object) -> None:
        mode.listener = self._previous


def meaning(
    op: Op, arrays: list[Any], params: Any, shape: Any, dtype: dt.dtype, number: int = 0
) -> np.ndarray:
    """A call's result by the record's rule."""
    found, known = _scalar(op, arrays, params) if op.scalar else _element(op, arrays, params, shape)
    found = found[number] if isinstance(found, tuple) else found
    narrowed = dtype in dt.HALVES and found.dtype is dt.float32
    assert found.dtype is dtype or narrowed, f"{op.name}: {found.dtype}, not {dtype}"
    value = sc.evaluate(found, known, looked_up)
    return np.broadcast_to(np.asarray(value), shape).astype(dtype.numpy)


def _widened(op: Op, a: Any) -> Any:
    half = isinstance(a, np.ndarray) and dt.of_numpy(a.dtype) in dt.HALVES
    return a.astype(np.float32) if half and op.in_float32 else a


def operands_of(op: Op, arrays: list[Any]) -> tuple[list[Any], dt.dtype]:
    """Halves as float32 where the op computes in it, and the dtype that numbers take."""
    wide = [_widened(op, a) for a in arrays]
    kinds = [a.dtype for i, a in enumerate(wide) if isinstance(a, np.ndarray) and i not in op.keeps]
    return wide, dt.of_numpy(kinds[0])


def _scalar(op: Op, arrays: list[Any], params: Any) -> tuple[Any, dict[sc.Scalar, Any]]:
    """The expression over operands."""
    arrays, computing = operands_of(op, arrays)
    known: dict[sc.Scalar, Any] = {}

    def operand(i: int, a: Any) -> Any:
        if isinstance(a, np.ndarray):
            made = sc.Scalar("operand", (i,), dt.of_numpy(a.dtype))
            known[made] = a
            return made
        return None if a is None else sc.const(a, computing)

    return op.scalar(*(operand(i, a) for i, a in enumerate(arrays)), **params), known


def _element(
    op: Op, arrays: list[Any], params: Any, shape: Any
) -> tuple[Any, dict[sc.Scalar, Any]]:
    index = sc.indexes(shape)
    wide = [_widened(op, a) for a in arrays]
    sources = [Operand(a) if isinstance(a, np.ndarray) else a for a in wide]
    found = op.element(index, *sources, **params)
    axes = np.ogrid[tuple(slice(n) for n in shape)] if shape else []
    return found, {i: a for i, a in zip(index, axes, strict=True) if i.op == "index"}


def looked_up(operand: Operand, *index: Any) -> Any:
    """Elements at an index; what does not exist is replaced by what does."""
    if not operand.array.size:
        return np.zeros((), operand.array.dtype)
    pairs = zip(index, operand.shape, strict=True)
    return operand.array[tuple(np.clip(i, 0, n - 1) for i, n in pairs)]
