"""The eager listener: runs NumPy kernels, wraps their arrays, and appends to the tape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import autograd, dispatch
from ganglion.dispatch import mode
from ganglion.errors import (
    AutogradError,
    DTypeError,
    GanglionError,
    IndexingError,
    ShapeError,
    TraceError,
)
from ganglion.ops.movement import WRITE_VIEW, cast, plain_chain
from ganglion.ops.record import Op
from ganglion.shapes import Meta, show
from ganglion.storage import Chain, View
from ganglion.tensor import Tensor, wrap

F32 = np.dtype(np.float32)
_HALF_SIZE = 2


class Eager:
    """Computes at once, on arrays."""

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Run the kernel on the inputs' arrays and wrap what it returns."""
        inputs, arrays, plain = prepare(op, inputs)
        try:
            run = mode.quiet.run
            out = run(op.kernel, *arrays, **params) if plain else run_kernel(op, arrays, params)
        except GanglionError:
            raise
        except Exception as error:
            raise explain(op, inputs, params, error) from error
        if op.donates:
            return _store(op, inputs, out)
        return finish(op, inputs, arrays, params, out)

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Copy into the target's memory, then rebase gradient history."""
        check_writable(target, value)
        source = value._data
        if source is not target._data:
            if value._edge is not None:
                autograd.keep_own(value._edge[0], target)
            mode.quiet.run(np.copyto, target._data, source, casting="unsafe")
        rebase(target, value)
        return target

    def read(self, tensor: Tensor) -> Any:
        """The tensor's own array."""
        return tensor._data


def prepare(op: Op, inputs: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[Any], bool]:
    """Unwrap tensors and bring operands to one dtype; the flag says all tensors are float32."""
    plain = True
    arrays = []
    for x in inputs:
        if isinstance(x, Tensor):
            x = x._data
            if x.dtype is not F32:
                plain = False
        elif x is not None and not isinstance(x, (float, int)):
            plain = False
        arrays.append(x)
    if plain:
        return inputs, arrays, True
    inputs = promoted(op, inputs)
    return inputs, [x._data if isinstance(x, Tensor) else x for x in inputs], False


def promoted(op: Op, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Operands cast to the dtype in which PyTorch computes; foreign values become tensors."""
    inputs = tuple(map(_operand, inputs))
    if op.promote == "none":
        return inputs
    target = result_type(*(x for i, x in enumerate(inputs) if i not in op.keeps))
    if op.promote == "float" and not target.is_floating_point:
        target = dt.get_default_dtype()
    return tuple(x if i in op.keeps else _cast_operand(x, target) for i, x in enumerate(inputs))


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


def run_kernel(op: Op, arrays: list[Any], params: Mapping[str, Any]) -> Any:
    """Run a kernel on arrays of any dtype; two-byte floats are computed in float32."""
    half = op.in_float32 and _half_dtype(arrays)
    if not half:
        return mode.quiet.run(op.kernel, *arrays, **params)
    wide = [a.astype(F32) if _is_half(a) else a for a in arrays]
    out = mode.quiet.run(op.kernel, *wide, **params)
    many = out if op.outputs > 1 else (out,)
    back = tuple(mode.quiet.run(_narrow, a, half) for a in many)
    return back if op.outputs > 1 else back[0]


def _is_half(a: Any) -> bool:
    return isinstance(a, np.ndarray) and a.itemsize == _HALF_SIZE and a.dtype.kind in "fV"


def _half_dtype(arrays: list[Any]) -> np.dtype[Any] | None:
    return next((a.dtype for a in arrays if _is_half(a)), None)


def _narrow(a: Any, half: np.dtype[Any]) -> Any:
    return a.astype(half) if a.dtype == F32 else a


def finish(
    op: Op, inputs: tuple[Any, ...], arrays: Sequence[Any], params: Mapping[str, Any], out: Any
) -> Any:
    """Wrap a kernel's arrays in tensors and record the call where a gradient may be wanted."""
    many = op.outputs > 1
    results = tuple(map(_output, out)) if many else (_output(out),)
    if mode.grad and op.vjp is not None:
        autograd.record(op, inputs, arrays, params, results)
    if op.view:
        _attach(op, inputs[0], params, results)
    if mode.anomaly:
        autograd.check_finite(op, results)
    return results if many else results[0]


def _output(array: Any) -> Tensor:
    if isinstance(array, np.generic):  # NumPy's 0-d results are scalars
        array = np.asarray(array)
    return wrap(array)


def _attach(op: Op, source: Tensor, params: Mapping[str, Any], results: tuple[Any, ...]) -> None:
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
    base, chain, quiet = source, path, not mode.grad
    origin: Tensor | None = source
    if seen is not None:
        base, chain = seen.base, (*seen.chain, *path)
        if seen.origin is not None and not source._leaf:
            origin, path, quiet = seen.origin, (*seen.path, *path), quiet or seen.quiet
    if op.vjp is None:
        origin = None
    result._view = View(base, chain, origin, path, storage.version, quiet)


def _store(op: Op, inputs: tuple[Any, ...], out: Any) -> tuple[Tensor, ...]:
    """Results of an update are the donated tensors themselves, a version later."""
    results = out if op.outputs > 1 else (out,)
    targets = tuple(inputs[i] for i in op.donates)
    for target, array in zip(targets, results, strict=True):
        if array is not target._data:
            np.copyto(target._data, array, casting="unsafe")
        target._storage.version += 1
    return targets


def check_writable(target: Tensor, value: Tensor) -> None:
    """Refuse in-place writes that PyTorch refuses, with its reasons."""
    if target._data.shape != value._data.shape:
        raise ShapeError(
            f"output with shape {show(target._data.shape)} doesn't match the broadcast shape "
            f"{show(value._data.shape)}; an in-place operation cannot change its tensor's shape"
        )
    if not dt.can_cast(value.dtype, target.dtype):
        raise DTypeError(
            f"result type {value.dtype.name} can't be cast to the desired output type "
            f"{target.dtype.name}; compute out of place, or convert the tensor first"
        )
    if mode.grad:
        _check_history(target, value)
    if 0 in getattr(target._data, "strides", ()) and _overlaps(target._data):
        raise AutogradError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def _check_history(target: Tensor, value: Tensor) -> None:
    if target._leaf:
        raise AutogradError(
            "a leaf Variable that requires grad is being used in an in-place operation. "
            "Write under `with no_grad():`, or to a clone()."
        )
    view = target._view
    if view is None or view.origin is None:
        return
    if view.quiet and (view.origin.requires_grad or value.requires_grad):
        raise AutogradError(
            "A view was created in no_grad mode and is being modified inplace with grad mode "
            "enabled. Make the view and write to it both inside no_grad, or both outside."
        )
    if view.origin._leaf:
        raise AutogradError(
            "a view of a leaf Variable that requires grad is being used in an in-place operation. "
            "Write under `with no_grad():`, or to a clone()."
        )


def _overlaps(array: np.ndarray[Any, Any]) -> bool:
    return any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True))


def rebase(target: Tensor, value: Tensor) -> None:
    """Give a written tensor (and, if it is a view, its base) the history of the new value."""
    target._storage.version += 1
    if not mode.grad:
        return
    view = target._view
    if view is None or view.origin is None:
        target._edge = value._edge
        return
    origin = view.origin
    if origin.requires_grad or value.requires_grad:
        params = {"chain": plain_chain(view.path)}
        arrays = (origin._data, value._data)
        autograd.record(WRITE_VIEW, (origin, value), arrays, params, (origin,))
        autograd.refresh(target)


def explain(
    op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any], error: Exception
) -> Exception:
    """Word a kernel's failure through the op's shape rule, in terms of what was given."""
    if any(isinstance(x, Tensor) and not isinstance(x._data, np.ndarray) for x in inputs):
        return TraceError(
            f"{op.name}: a tensor made while a step was traced was used after the trace. Return it "
            "from the step instead of keeping it."
        )
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
