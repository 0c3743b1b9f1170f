"""Derivatives of functions: Jacobians, Hessians, and their products with vectors.

``func`` takes and returns a tensor or a tuple of tensors; so do these functions, with ``inputs``
and vectors ``v`` in the same form. Results carry no history unless ``create_graph``. With
``strict``, an output that does not depend on an input is an error instead of zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ganglion.autograd.walk import grad
from ganglion.errors import AutogradError, ShapeError
from ganglion.gradmode import enable_grad
from ganglion.ops.create import ones_like, zeros, zeros_like
from ganglion.ops.join import stack
from ganglion.ops.movement import detach, reshape
from ganglion.shapes import show
from ganglion.tensor import Tensor

Tensors = tuple[Tensor, ...]
Func = Callable[..., Any]


def vjp(
    func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(inputs)`` and ``v``ᵀ·Jacobian; ``v`` may be left out for a scalar output."""
    with enable_grad():
        xs = _inputs(inputs, create_graph)
        y = func(*xs)
        found = _grad(_tuple(y), xs, _vectors(v, _tuple(y), "outputs"), create_graph, strict)
    return _detached(y, create_graph), _as(inputs, found)


def jvp(
    func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(inputs)`` and Jacobian·``v``, by differentiating vᵀ·Jacobian twice."""
    with enable_grad():
        xs = _inputs(inputs, create_graph)
        y = func(*xs)
        ys = _tuple(y)
        pushed = tuple(zeros_like(one).requires_grad_() for one in ys)
        pulled = _grad(ys, xs, pushed, create=True, strict=strict)
        vs = _vectors(v, xs, "inputs")
        found = _grad(pulled, pushed, vs, create_graph, strict)
    return _detached(y, create_graph), _as(y, found)


def jacobian(func: Func, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """All derivatives, of shape (*output, *input); tuples of outputs and inputs give tuples."""
    with enable_grad():
        xs = _inputs(inputs, create_graph)
        y = func(*xs)
        rows = tuple(_as(inputs, _jacobian(one, xs, create_graph, strict)) for one in _tuple(y))
    return _as(y, rows)


def _jacobian(y: Tensor, xs: Tensors, create: bool, strict: bool) -> Tensors:
    flat = reshape(y, (-1,))
    rows = [_grad((flat[i],), xs, (None,), create, strict) for i in range(len(flat))]
    return tuple(
        reshape(stack([row[j] for row in rows]), (*y.shape, *x.shape))
        if rows
        else zeros(*y.shape, *x.shape, dtype=x.dtype)
        for j, x in enumerate(xs)
    )


def hessian(func: Func, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """All second derivatives of a scalar function, of shape (*input, *input)."""
    return jacobian(_gradient(func, inputs, strict), inputs, create_graph, strict)


def hvp(
    func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(inputs)`` and Hessian·``v`` of a scalar function."""
    return vhp(func, inputs, v, create_graph, strict)  # a Hessian is symmetric


def vhp(
    func: Func, inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """``func(inputs)`` and ``v``ᵀ·Hessian of a scalar function."""
    with enable_grad():
        xs = _inputs(inputs, create_graph)
        y = _scalar(func(*xs))
        first = _grad((y,), xs, (None,), create=True, strict=strict)
        found = _grad(first, xs, _vectors(v, xs, "inputs"), create_graph, strict)
    return _detached(y, create_graph), _as(inputs, found)


def _gradient(func: Func, inputs: Any, strict: bool) -> Func:
    def gradient(*xs: Tensor) -> Any:
        y = _scalar(func(*xs))
        return _as(inputs, _grad((y,), xs, (None,), create=True, strict=strict))

    return gradient


def _scalar(y: Any) -> Tensor:
    if not isinstance(y, Tensor) or y.numel() != 1:
        given = show(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ShapeError(f"the function must return one tensor of a single element, got {given}")
    return y


def _inputs(inputs: Any, create: bool) -> Tensors:
    """Fresh tensors to differentiate by; connected to the given ones when a graph is wanted."""
    return tuple(
        x.view_as(x) if create and x.requires_grad else detach(x).requires_grad_()
        for x in _tuple(inputs)
    )


def _vectors(v: Any, like: Tensors, what: str) -> Tensors:
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise ShapeError(f"v can only be left out when there is one {what[:-1]} of one element")
        return (ones_like(like[0]),)
    vs = _tuple(v)
    if [x.shape for x in vs] != [x.shape for x in like]:
        raise ShapeError(
            f"v must have the shapes of the {what}, {', '.join(show(x.shape) for x in like)}; got "
            f"{', '.join(show(x.shape) for x in vs)}"
        )
    return vs


def _grad(
    ys: Tensors, xs: Tensors, vs: Sequence[Tensor | None], create: bool, strict: bool
) -> Tensors:
    """Gradients with zeros where there is no dependence, or an error when ``strict``."""
    live = [(y, v) for y, v in zip(ys, vs, strict=True) if y.requires_grad]
    found: Sequence[Tensor | None] = [None] * len(xs)
    if live:
        found = grad(
            [y for y, _ in live],
            xs,
            [v for _, v in live],
            retain_graph=True,
            create_graph=create,
            allow_unused=True,
        )
    for i, g in enumerate(found):
        if g is None and strict:
            raise AutogradError(f"the output does not depend on input {i}, and strict=True")
    return tuple(zeros_like(x) if g is None else g for x, g in zip(xs, found, strict=True))


def _tuple(x: Any) -> Tensors:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _as(like: Any, found: Tensors | tuple[Any, ...]) -> Any:
    return found[0] if isinstance(like, Tensor) else found


def _detached(y: Any, create: bool) -> Any:
    if create:
        return y
    return detach(y) if isinstance(y, Tensor) else tuple(map(detach, y))
