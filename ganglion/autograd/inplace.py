"""In-place writes: which are refused, and what becomes of the history of tensor and base."""

from __future__ import annotations

from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.autograd.tape import record, refresh, set_edge, versions
from ganglion.dispatch import mode
from ganglion.errors import AutogradError, DTypeError, ShapeError
from ganglion.ops.movement import WRITE_VIEW, plain_chain
from ganglion.shapes import show
from ganglion.storage import Storage
from ganglion.tensor import Tensor

_LEAF = (
    "leaf Variable that requires grad is being used in an in-place operation. Write under "
    "`with no_grad():`, or to a clone()."
)


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
    if target._storage.version is None and not mode.inference:
        raise AutogradError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. You can make "
            "a clone to get a normal tensor before doing inplace update."
        )
    if 0 in getattr(target._data, "strides", ()) and _overlaps(target._data):
        raise AutogradError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def _check_history(target: Tensor, value: Tensor) -> None:
    if target._leaf:
        raise AutogradError(f"a {_LEAF}")
    view = target._view
    if view is None:
        return
    origin = view.origin
    if view.refusal and (value.requires_grad or (origin is not None and origin.requires_grad)):
        raise AutogradError(
            f"{view.refusal} and is being modified inplace with grad mode enabled. Make a view and "
            "write to it in the same mode, or write to a clone()."
        )
    if origin is not None and origin._leaf:
        raise AutogradError(f"a view of a {_LEAF}")


def _overlaps(array: np.ndarray[Any, Any]) -> bool:
    pairs = zip(array.strides, array.shape, strict=True)
    return bool(array.size) and any(s == 0 and n > 1 for s, n in pairs)


def own_saved(target: Tensor, value: Tensor) -> None:
    """Before ``target`` is overwritten by an op's own result, part what the op saved from it."""
    if value._edge is None:
        return
    node, storage = value._edge[0], target._storage
    if node.saved is None or storage not in node.stores:
        return
    for i, array in enumerate(node.saved):
        if node.stores[i] is not storage:
            continue
        if array is target._data:
            node.saved[i], node.stores[i] = array.copy(), Storage()
        elif not isinstance(array, np.ndarray):  # a graph value never changes
            node.stores[i] = Storage()
    node.stamp = versions(node.stores)


def rebase(target: Tensor, value: Tensor) -> None:
    """Give a written tensor (and the origin of its view) the history of the new value.

    ``value`` is fresh: its history is taken over, since nobody else goes on from it.
    """
    view = target._view
    if not mode.grad:
        target._storage.advance()
    elif view is not None and view.origin is not None:
        changed = view.origin.requires_grad or value.requires_grad
        if changed:
            _overwrite(view.origin, value, plain_chain(view.path))
        target._storage.advance()  # only now: the value may be a view of the same memory
        if changed:
            refresh(target, view)
    else:
        _take_over(target, value)
        target._storage.advance()


def _take_over(target: Tensor, value: Tensor) -> None:
    if value._edge is not None:
        set_edge(target, value._edge)
    elif value._leaf or target._edge is not None:
        _overwrite(target, value, ())


def _overwrite(whole: Tensor, value: Tensor, chain: Any) -> None:
    """Record that part of ``whole`` (all of it, for the empty chain) was replaced."""
    old = whole._edge
    record(WRITE_VIEW, (whole, value), (whole._data, value._data), {"chain": chain}, (whole,))
    new, whole._edge = whole._edge, old
    set_edge(whole, new)
