"""Functions with gradient rules of one's own.

Subclass ``Function``::

    class Cube(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x * x * grad

and call it as ``Cube.apply(x)``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ganglion.autograd import anomaly
from ganglion.autograd.inplace import check_writable, rebase
from ganglion.autograd.tape import Node, edge, new_order, versions
from ganglion.dispatch import mode
from ganglion.dtypes import as_dtype
from ganglion.errors import ArgumentTypeError, AutogradError, ShapeError
from ganglion.gradmode import Switch
from ganglion.ops.create import zeros
from ganglion.ops.movement import detach
from ganglion.ops.record import Saved
from ganglion.shapes import Shape, show
from ganglion.storage import View
from ganglion.tensor import Tensor, wrap


@dataclass(frozen=True)
class _Rule:
    """What the walk asks of an op, for a user's function."""

    name: str
    outputs: int
    vjp: Callable[..., Sequence[Tensor | None]]
    vjp_takes_none = True


class FunctionCtx(Node):
    """One call of a ``Function``: its tape node, on which the user may leave attributes."""

    needs_input_grad: tuple[bool, ...]

    def __init__(self, args: Sequence[Any]) -> None:
        self.edges = tuple(map(edge, args))
        self.order, self.watch, self.params = new_order(), None, {}
        self.needs_input_grad = tuple(e is not None for e in self.edges)
        self.shapes = [x._data.shape if isinstance(x, Tensor) else () for x in args]
        self.dtypes = [x._data.dtype if isinstance(x, Tensor) else None for x in args]
        self.keys, self.saved, self.stores, self.stamp = (), [], [], 0
        self._to_save: tuple[Tensor | None, ...] = ()
        self._dirty: tuple[Tensor, ...] = ()
        self._constant: tuple[Tensor, ...] = ()
        self._materialize = True

    def name(self) -> str:
        return str(self.op.name)

    def check(self) -> None:
        """Nothing yet: ``backward`` may do without the saved tensors."""

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep inputs, outputs or other tensors for ``backward``, watched for in-place writes."""
        for i, x in enumerate(tensors):
            if x is not None and not isinstance(x, Tensor):
                raise ArgumentTypeError(
                    f"save_for_backward can only save tensors, but argument {i} is of type "
                    f"{type(x).__name__}; make it an attribute of ctx"
                )
        self._to_save = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What ``save_for_backward`` was given, with its gradient history."""
        super().check()
        assert self.saved is not None
        return tuple([self._unpacked(x) for x in self.saved])

    def _unpacked(self, x: Any) -> Any:
        if isinstance(x, _Output):
            out = wrap(x.array)
            out._edge = (self, x.index)
            return out
        return x

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs ``forward`` overwrote; return them as well."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._constant = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (the default) or None for outputs without gradient."""
        self._materialize = value


@dataclass(frozen=True)
class _Output:
    """A saved output: its array only, since a tape never refers to its own results."""

    array: Any
    index: int


class Function:
    """Base of functions with a gradient rule of one's own.

    ``forward(ctx, *args)`` computes (or ``forward(*args)`` with ``setup_context(ctx, inputs,
    output)``), and ``backward(ctx, *grads)`` gives one gradient, or None, per argument of
    ``forward``. Neither is recorded unless ``backward`` is differentiated in its turn.
    """

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function of a custom Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Save what ``backward`` needs, when ``forward`` takes no ``ctx``."""

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError(
            "You must implement the backward method of your custom autograd.Function to use it "
            "with backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call the function and record it."""
        separate = cls.setup_context is not Function.setup_context
        if separate:
            args = _bound(cls.forward, args, kwargs)
        ctx = FunctionCtx(args)
        with Switch(grad=False):
            if separate:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
            else:
                output = cls.forward(ctx, *args, **kwargs)
        if not mode.grad or not any(ctx.needs_input_grad):
            return output
        results = output if isinstance(output, tuple) else (output,)
        ctx.op = _Rule(f"{cls.__name__}Backward", len(results), functools.partial(_run, cls))
        results = _recorded(ctx, args, results)
        return results if isinstance(output, tuple) else results[0]


def _bound(forward: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, ...]:
    if not kwargs:
        return args  # type: ignore[no-any-return]
    bound = inspect.signature(forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args


# --- forward --------------------------------------------------------------------------------------


def _recorded(ctx: FunctionCtx, args: Sequence[Any], results: Sequence[Any]) -> tuple[Any, ...]:
    """The results with the call as their history."""
    ctx.outputs = [
        (r._data.shape, r._data.dtype) if isinstance(r, Tensor) else None for r in results
    ]
    if mode.anomaly:
        ctx.watched().where = anomaly.user_line()
    fresh = [None if _is_in(r, args) and not _is_in(r, ctx._dirty) else r for r in results]
    ctx.saved = [_packed(x, fresh) for x in ctx._to_save]
    ctx.stores = [x._storage for x in ctx._to_save if x is not None]
    recorded = tuple([_output(ctx, i, r, args) for i, r in enumerate(results)])
    ctx.stamp = versions(ctx.stores)
    ctx._to_save = ctx._dirty = ctx._constant = ()
    return recorded


def _packed(x: Any, outputs: Sequence[Any]) -> Any:
    index = next((i for i, out in enumerate(outputs) if out is x), None)
    return x if x is None or index is None else _Output(x._data, index)


def _is_in(x: Any, tensors: Sequence[Any]) -> bool:
    return any(x is t for t in tensors)


def _output(ctx: FunctionCtx, i: int, r: Any, args: Sequence[Any]) -> Any:
    if not isinstance(r, Tensor) or not r.dtype.is_floating_point or _is_in(r, ctx._constant):
        return r
    if _is_in(r, ctx._dirty):
        return _overwritten(ctx, i, r)
    if _is_in(r, args) or r._edge is not None or r._leaf:
        r = _refusing(detach(r), i, ctx)
    elif r._view is not None:
        r = _refusing(r, i, ctx)
    r._edge = (ctx, i)
    return r


def _refusing(x: Tensor, i: int, ctx: FunctionCtx) -> Tensor:
    """An output that shares memory with an input: to write to it would leave out ``backward``."""
    refusal = (
        f"Output {i} of {ctx.name()} is a view made inside a custom Function (or an input returned "
        "as it is), whose backward an in-place write would override,"
    )
    seen = x._view or View(wrap(x._data), (), None, (), x._storage.version)
    x._view = View(seen.base, seen.chain, None, (), seen.version, refusal)
    return x


def _overwritten(ctx: FunctionCtx, i: int, x: Tensor) -> Tensor:
    """An input that ``forward`` wrote to: it takes the call as its history."""
    value = wrap(x._data)
    value._edge = (ctx, i)
    check_writable(x, value)
    rebase(x, value)
    return x


# --- backward -------------------------------------------------------------------------------------


def _run(cls: type[Function], saved: Saved, *grads: Any) -> Sequence[Any]:
    """The joint rule of a function's calls: its ``backward``, checked."""
    ctx = saved.node
    assert isinstance(ctx, FunctionCtx)
    if ctx._materialize:
        grads = tuple([_or_zeros(g, out) for g, out in zip(grads, ctx.outputs, strict=True)])
    found = cls.backward(ctx, *grads)
    results = found if isinstance(found, tuple) else (found,)
    wanted = len(ctx.edges)
    if len(results) < wanted or any(g is not None for g in results[wanted:]):
        raise AutogradError(
            f"function {ctx.name()} returned an incorrect number of gradients (expected {wanted}, "
            f"got {len(results)})"
        )
    return [_checked(ctx, i, g) for i, g in enumerate(results[:wanted])]


def _or_zeros(grad: Any, out: tuple[Shape, Any] | None) -> Any:
    if grad is not None or out is None:
        return grad
    return zeros(out[0], dtype=as_dtype(out[1]))


def _checked(ctx: FunctionCtx, i: int, grad: Any) -> Any:
    if grad is None:
        return None
    if ctx.dtypes[i] is None:
        raise AutogradError(
            f"function {ctx.name()} returned a gradient different from None at position {i + 1}, "
            "but the corresponding forward input was not a tensor"
        )
    if not isinstance(grad, Tensor):
        raise ArgumentTypeError(
            f"function {ctx.name()} must return tensors or None, but returned "
            f"{type(grad).__name__} at position {i + 1}"
        )
    given, wanted = grad._data.shape, ctx.shapes[i]
    lead = len(given) - len(wanted)
    if lead < 0 or any(n not in (1, m) for n, m in zip(wanted, given[lead:], strict=True)):
        raise ShapeError(
            f"Function {ctx.name()} returned an invalid gradient at index {i} - got {show(given)} "
            f"but expected shape compatible with {show(wanted)}"
        )
    return grad


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For a ``backward`` whose own derivatives would be wrong: asking for them raises."""

    @functools.wraps(backward)
    def wrapped(ctx: Any, *grads: Any) -> Any:
        with Switch(grad=False):
            found = backward(ctx, *grads)
        if not mode.grad or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return found
        many = isinstance(found, tuple)
        stopped = [_Stop.apply(g, *grads) for g in (found if many else (found,))]
        return tuple(stopped) if many else stopped[0]

    return wrapped


class _Stop(Function):
    """Passes a gradient on; its own gradient is refused."""

    @staticmethod
    def forward(ctx: Any, grad: Any, *grads: Any) -> Any:
        return grad

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise AutogradError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )
