"""The part of a tensor that concerns gradients: leaves, history, ``grad``, hooks."""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from ganglion.dispatch import mode, write
from ganglion.errors import ArgumentTypeError, AutogradError, DTypeError, ShapeError, TraceError
from ganglion.ops.movement import detach, zeros_of
from ganglion.shapes import show
from ganglion.storage import Storage

if TYPE_CHECKING:
    from ganglion.autograd.tape import Node
    from ganglion.tensor import Tensor

Hook = Callable[..., Any]
_hook_ids = itertools.count()


class Handle:
    """Stands for a registered hook; ``remove()`` takes it off again."""

    def __init__(self, hooks: dict[int, Hook], hook: Hook) -> None:
        self.id, self._hooks = next(_hook_ids), hooks
        hooks[self.id] = hook

    def remove(self) -> None:
        """Take the hook off; doing it twice is harmless."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def requires_grad(self: Tensor) -> bool:
    """Whether gradients are computed for it. Settable on leaves."""
    if self._leaf or self._edge is not None:
        return True
    view = self._view  # its base may have got a history since
    return view is not None and not view.refusal and self._engine.edge(self) is not None


def requires_grad_(self: Tensor, requires_grad: bool = True) -> Tensor:
    """Ask for gradients (floating dtypes only), or stop asking; in place."""
    if mode.tracer is not None:
        mode.tracer.flag(self)
    if self._edge is not None:
        if not requires_grad:
            raise AutogradError(
                "you can only change requires_grad flags of leaf variables. If you want to use a "
                "computed variable in a subgraph that doesn't require differentiation use "
                "var_no_grad = var.detach()."
            )
        return self
    if requires_grad and not self.dtype.is_floating_point:
        raise DTypeError(
            f"only Tensors of floating point dtype can require gradients, got {self.dtype}"
        )
    if requires_grad and self._storage.version is None and not mode.inference:
        raise AutogradError(
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed. "
            "Make a clone() of it."
        )
    self._leaf = requires_grad
    return self


def set_requires_grad(self: Tensor, wanted: bool) -> None:
    requires_grad_(self, wanted)


def grad_fn(self: Tensor) -> Node | None:
    """The tape node that made it, or None."""
    if self._view is not None:
        self._engine.edge(self)
    return self._edge[0] if self._edge else None


def is_leaf(self: Tensor) -> bool:
    """Whether it was made by the user rather than by a recorded op."""
    return grad_fn(self) is None


def output_nr(self: Tensor) -> int:
    """Which of its node's outputs it is."""
    return self._edge[1] if self._edge else 0


def get_data(self: Tensor) -> Tensor:
    """The same memory without history; writes through it go unnoticed by autograd."""
    alias = detach(self)
    alias._storage = Storage()
    return alias


def set_data(self: Tensor, other: Tensor) -> None:
    if mode.tracer is None:
        self._data, self._view = other._data, None
        return
    if (self._data.shape, self.dtype) != (other._data.shape, other.dtype):
        raise TraceError(
            f".data of a {self.dtype.name} tensor of shape {show(self._data.shape)} cannot become "
            f"{other.dtype.name} {show(other._data.shape)} inside a compiled function; do it before"
        )
    before, mode.grad = mode.grad, False
    try:
        write(self, other)  # the program finds tensors by their memory, so it stays
    finally:
        mode.grad = before


def version(self: Tensor) -> int:
    """How often its memory was written to."""
    found = self._storage.version
    if found is None:
        raise AutogradError("Inference tensors do not track version counter.")
    return found


def is_inference(self: Tensor) -> bool:
    """Whether it was made in inference mode."""
    return self._storage.version is None


def backward(
    self: Tensor,
    gradient: Tensor | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Accumulate gradients of this tensor into the ``.grad`` of its leaves."""
    self._engine.backward(self, gradient, retain_graph, create_graph, inputs)


def get_grad(self: Tensor) -> Tensor | None:
    """The gradient accumulated by ``backward()``: of leaves, and where ``retain_grad()`` asked."""
    check_grad_there(self)
    if self._grad is None and self._edge is not None and not retains_grad(self):
        warnings.warn(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its "
            ".grad attribute won't be populated during autograd.backward(). Call .retain_grad() "
            "on it first, or look at the leaf.",
            stacklevel=2,
        )
    return self._grad


def check_grad_there(self: Tensor) -> None:
    """Refuse to go on from a gradient that a compiled step has used up."""
    if mode.tracer is not None:
        mode.tracer.grad(self, assigned=False)
    if self._spent:
        raise AutogradError(
            "this gradient was used up inside a compiled function, which kept it in registers and "
            "did not store it. Compile with keep_grads=True to look at gradients (a Trainer: "
            "compile=False), or call zero_grad() before adding new ones."
        )


def forget_grad(self: Tensor, set_to_none: bool) -> None:
    """What ``zero_grad()`` does to one tensor: None, or zeros in place of what is there."""
    if set_to_none:
        set_grad(self, None)
    elif self._spent:
        set_grad(self, zeros_of(self))
    elif (grad := get_grad(self)) is not None:
        if requires_grad(grad):
            set_grad(self, zeros_of(grad))
        else:
            write(grad, zeros_of(grad))


def set_grad(self: Tensor, grad: Tensor | None) -> None:
    if mode.tracer is not None:
        mode.tracer.grad(self, assigned=True)
    if grad is not None:
        _check_grad(self, grad)
    self._grad = grad
    if self._spent:
        self._spent = False


def _check_grad(x: Tensor, grad: Any) -> None:
    if not hasattr(grad, "_data"):
        raise ArgumentTypeError(
            "assigned grad expected to be a Tensor or None but got grad of type "
            f"{type(grad).__name__}"
        )
    if grad is x:
        raise AutogradError("can't assign Variable as its own grad")
    if grad._data.shape != x._data.shape:
        raise ShapeError(
            f"attempting to assign a gradient of size {show(grad._data.shape)} to a tensor of size "
            f"{show(x._data.shape)}; they must be the same"
        )
    if grad.dtype is not x.dtype:
        raise DTypeError(
            f"attempting to assign a gradient with dtype {grad.dtype.name} to a tensor with dtype "
            f"{x.dtype.name}; they must be the same"
        )


def register_hook(self: Tensor, hook: Hook) -> Handle:
    """Call ``hook(grad)`` whenever this gradient is computed; a tensor it returns replaces it."""
    _check_hookable(self)
    node = grad_fn(self)
    if node is not None:
        return Handle(node.watched().hooks.setdefault(output_nr(self), {}), hook)
    if self._hooks is None:
        self._hooks = {}
    return Handle(self._hooks, hook)


def register_post_accumulate_grad_hook(self: Tensor, hook: Hook) -> Handle:
    """Call ``hook(tensor)`` after a backward pass has added to this leaf's ``.grad``."""
    _check_hookable(self)
    if self._edge is not None:
        raise AutogradError(
            "post accumulate grad hooks cannot be registered on non-leaf tensors; use "
            "register_hook()"
        )
    if self._post_hooks is None:
        self._post_hooks = {}
    return Handle(self._post_hooks, hook)


def _check_hookable(x: Tensor) -> None:
    if not requires_grad(x):
        raise AutogradError("cannot register a hook on a tensor that doesn't require gradient")


def retain_grad(self: Tensor) -> None:
    """Have ``backward()`` fill this tensor's ``.grad`` although it is not a leaf."""
    if not requires_grad(self):
        raise AutogradError("can't retain_grad on Tensor that has requires_grad=False")
    node = grad_fn(self)
    if node is not None:
        node.watched().retained[output_nr(self)] = weakref.ref(self)


def retains_grad(self: Tensor) -> bool:
    """Whether ``retain_grad()`` was called on this non-leaf."""
    node = grad_fn(self)
    if node is None or node.watch is None:
        return False
    kept = node.watch.retained.get(output_nr(self))
    return kept is not None and kept() is self


class History:
    """A tensor's gradient and where it comes from."""

    requires_grad = property(requires_grad, set_requires_grad)
    requires_grad_ = requires_grad_
    is_leaf = property(is_leaf)
    grad_fn = property(grad_fn)
    output_nr = property(output_nr)
    data = property(get_data, set_data)
    _version = property(version)
    is_inference = is_inference

    backward = backward
    grad = property(get_grad, set_grad)
    retain_grad = retain_grad
    retains_grad = property(retains_grad)
    register_hook = register_hook
    register_post_accumulate_grad_hook = register_post_accumulate_grad_hook
