"""The eager listener: runs NumPy kernels, wraps their arrays, and appends to the tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import dispatch, heavy
from ganglion.autograd.inplace import check_writable, own_saved, rebase
from ganglion.autograd.tape import record
from ganglion.dispatch import mode
from ganglion.errors import (
    ArgumentTypeError,
    DTypeError,
    GanglionError,
    IndexingError,
    ShapeError,
    TraceError,
)
from ganglion.ops.movement import cast
from ganglion.ops.record import Op
from ganglion.shapes import Meta
from ganglion.storage import Chain, InferenceStorage, View
from ganglion.tensor import Tensor, wrap

F32: np.dtype[Any] = np.dtype(np.float32)
F64: np.dtype[Any] = np.dtype(np.float64)
_HALF_SIZE = 2


class Eager:
    """Computes at once, on arrays."""

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Run the kernel on the inputs' arrays and wrap what it returns."""
        inputs, arrays, plain, live = prepare(op, inputs)
        try:
            out = heavy.run(op, arrays, params) if op.heavy else None
            if out is None and plain:
                out = mode.run(op.kernel, *arrays, **params)
            elif out is None:
                out = run_kernel(op, arrays, params)
        except GanglionError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, worded
            out = _failed(op, inputs, arrays, params, error)
        if op.donates:
            return _store(op, inputs, out)
        return finish(op, inputs, arrays, params, out, live)

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Copy into the target's memory, then rebase gradient history."""
        check_writable(target, value)
        if value._data is not target._data:
            own_saved(target, value)
            quietly(np.copyto, target._data, value._data, casting="unsafe")
        rebase(target, value)
        return target

    def read(self, tensor: Tensor) -> Any:
        """The tensor's own array."""
        data = tensor._data
        if not isinstance(data, np.ndarray):
            raise _leaked(data)
        return data


def prepare(op: Op, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any], bool, bool]:
    """Unwrap tensors and bring operands to one dtype.

    The flags say that kernels take the arrays as they are, and that an input may have a history.
    """
    arrays: list[Any] = []
    plain, live, kind = True, False, F32
    for x in inputs:
        if isinstance(x, Tensor):
            if x._edge is not None or x._leaf or x._view is not None:
                live = True
            x = x._data
            if x.dtype is not kind:
                plain = x.dtype is F64 and not arrays
                kind = F64
        elif x is not None and not isinstance(x, (float, int)):
            plain = False
        arrays.append(x)
    if plain:
        return inputs, arrays, True, live
    inputs = promoted(op, inputs)
    return inputs, [x._data if isinstance(x, Tensor) else x for x in inputs], False, live


def promoted(op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands cast to the dtype in which PyTorch computes; foreign values become tensors."""
    if op.promote != "none" and _agree(op, inputs):
        return inputs
    inputs = tuple(map(_operand, inputs))
    if op.promote == "none":
        return inputs
    target = result_type(*(x for i, x in enumerate(inputs) if i not in op.keeps))
    if op.promote == "float" and not target.is_floating_point:
        target = dt.get_default_dtype()
    return tuple(x if i in op.keeps else _cast_operand(x, target) for i, x in enumerate(inputs))


def _agree(op: Op, inputs: tuple[Any, ...]) -> bool:
    """Whether all tensors are of one floating dtype, which numbers cannot change."""
    met = None
    for i, x in enumerate(inputs):
        if isinstance(x, Tensor):
            found = met if i in op.keeps else x.dtype
            if found is not met is not None:
                return False
            met = found
        elif x is not None and not isinstance(x, (float, int)):
            return False
    return met is not None and met.category == dt.FLOATING


def _operand(x: Any) -> Any:
    if x is None or isinstance(x, (Tensor, bool, int, float)):
        return x
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, np.ndarray):
        return wrap(x)
    raise ArgumentTypeError(f"expected a tensor or a number, got {type(x).__name__}: {x!r}")


def _cast_operand(x: Any, target: dt.dtype) -> Any:
    if isinstance(x, Tensor):
        return x if x.dtype is target else cast(x, target)
    if isinstance(x, int) and target.category == dt.INTEGRAL:
        limits = dt.iinfo(target)
        if not limits.min <= x <= limits.max:  # PyTorch wraps around
            return int(np.array(x & 0xFFFFFFFFFFFFFFFF, np.uint64).astype(target.numpy))
    return x


def result_type(*operands: Any) -> dt.dtype:
    """The dtype that tensors and numbers meet in: sized tensors, then 0-d ones, then numbers."""
    ranks: list[dt.dtype | None] = [None, None, None]
    for x in operands:
        if x is None:
            continue
        tensor = isinstance(x, Tensor)
        rank = (0 if x._data.ndim else 1) if tensor else 2
        found = x.dtype if tensor else dt.of_scalar(x)
        seen = ranks[rank]
        ranks[rank] = found if seen is None else dt.promote_types(seen, found)
    result = dt.combine(dt.combine(ranks[0], ranks[1]), ranks[2])
    return result or dt.get_default_dtype()


def quietly(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a kernel with floating-point warnings off."""
    try:
        return mode.run(function, *args, **kwargs)
    except RuntimeError as error:
        if not _is_nested(error):
            raise
        return function(*args, **kwargs)


def _is_nested(error: Exception) -> bool:
    """Whether a kernel was called within a kernel (by a signal handler): it is quiet there."""
    return isinstance(error, RuntimeError) and str(error).startswith("cannot enter context")


def run_kernel(op: Op, arrays: list[Any], params: Mapping[str, Any]) -> Any:
    """Run a kernel on arrays of any dtype; two-byte floats are computed in float32."""
    half = op.in_float32 and _half_dtype(arrays)
    if not half:
        return quietly(op.kernel, *arrays, **params)
    wide = [a.astype(F32) if _is_half(a) else a for a in arrays]
    out = quietly(op.kernel, *wide, **params)
    if op.outputs == 1:
        return quietly(_narrow, out, half)
    return tuple([quietly(_narrow, a, half) for a in out])


def _is_half(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.itemsize == _HALF_SIZE and a.dtype.kind in "fV"


def _half_dtype(arrays: list[Any]) -> np.dtype[Any] | None:
    return next((a.dtype for a in arrays if _is_half(a)), None)


def _narrow(a: Any, half: np.dtype[Any]) -> Any:
    return a.astype(half) if a.dtype == F32 else a


def finish(
    op: Op,
    inputs: tuple[Any, ...],
    arrays: Sequence[Any],
    params: Mapping[str, Any],
    out: Any,
    live: bool = True,
) -> Any:
    """Wrap a kernel's arrays in tensors and record the call where a gradient may be wanted."""
    results = (_output(out),) if op.outputs == 1 else tuple([_output(a) for a in out])
    if live and op.vjp is not None and mode.grad:
        record(op, inputs, arrays, params, results)
    elif mode.inference:
        for r in results:
            r._storage = InferenceStorage()
    if op.view:
        _attach(op, inputs[0], params, results)
    return results[0] if op.outputs == 1 else results


def _output(array: Any) -> Tensor:
    if isinstance(array, np.generic):  # NumPy's 0-d results are scalars
        array = np.asarray(array)
    return wrap(array)


def _attach(op: Op, source: Tensor, params: Mapping[str, Any], results: Sequence[Tensor]) -> None:
    if op.part is None:
        attach_view(op, source, params, results[0])
        return
    for i, result in enumerate(results):
        step, own = op.part(params, i)
        attach_view(step, source, own, result)


def attach_view(op: Op, source: Tensor, params: Mapping[str, Any], result: Tensor) -> None:
    """Make ``result`` share its source's storage and remember the way to it."""
    storage = result._storage = source._storage
    seen = source._view
    path: Chain = ((op, params),)
    base, chain, refusal = source, path, "" if mode.grad else _made_without_grad()
    origin: Tensor | None = source
    if seen is not None:
        base, chain = seen.base, (*seen.chain, *path)
        if seen.origin is not None and not source._leaf:
            origin, path = seen.origin, (*seen.path, *path)
        refusal = refusal or seen.refusal
    if op.vjp is None:
        if base._edge is not None and type(result._data) is np.ndarray:
            return  # a detached tensor must not keep the tape alive
        origin, refusal = None, ""  # it has a history of its own, in which it may be written to
    result._view = View(base, chain, origin, path, storage.version, refusal)


def _made_without_grad() -> str:
    return f"A view was created in {'inference' if mode.inference else 'no_grad'} mode"


def _store(op: Op, inputs: tuple[Any, ...], out: Any) -> tuple[Tensor, ...]:
    """Results of an update are the donated tensors themselves, a version later."""
    results = out if op.outputs > 1 else (out,)
    targets = tuple(inputs[i] for i in op.donates)
    for target, array in zip(targets, results, strict=True):
        if array is not target._data:
            quietly(np.copyto, target._data, array, casting="unsafe")
        target._storage.advance()
    return targets


def _failed(
    op: Op,
    inputs: Sequence[Any],
    arrays: Sequence[Any],
    params: Mapping[str, Any],
    error: Exception,
) -> Any:
    if _is_nested(error):
        return op.kernel(*arrays, **params)
    worded = explain(op, inputs, params, error)
    if worded is error:
        raise error
    raise worded from error


def _leaked(symbol: Any) -> TraceError:
    return TraceError(
        f"a tensor made while a function was traced, at {symbol.origin}, is used after the trace. "
        "It has no values: return it from the function instead of keeping it; what must stay from "
        "call to call belongs into a tensor made before, written to in place."
    )


def explain(
    op: Op, inputs: Sequence[Any], params: Mapping[str, Any], error: Exception
) -> Exception:
    """Word a kernel's failure through the op's shape rule, in terms of what was given."""
    for x in inputs:
        if isinstance(x, Tensor) and not isinstance(x._data, np.ndarray):
            return _leaked(x._data)
    metas = [Meta(x._data.shape, x.dtype) if isinstance(x, Tensor) else x for x in inputs]
    try:
        op.infer(*metas, **params)
    except GanglionError as known:
        return known
    except Exception:  # noqa: BLE001, S110 - the kernel's own error says more
        pass
    given = ", ".join(map(str, metas))
    kinds = {IndexError: IndexingError, ValueError: ShapeError, TypeError: DTypeError}
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), None)
    return kind(f"{op.name}({given}): {error}") if kind else error


dispatch.Mode.listener = Eager()
