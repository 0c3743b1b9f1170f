"""Compare gradients with finite differences, of first and second order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.autograd.walk import grad
from ganglion.errors import ArgumentError, GradcheckError
from ganglion.gradmode import no_grad
from ganglion.tensor import Tensor, wrap

Array = np.ndarray[Any, Any]
Case = tuple[int, int, Array, Array]  # output and input number, direction in each


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """Whether the gradients of ``func`` at ``inputs`` equal central differences of step ``eps``.

    Every element of every output is differentiated by every element of every input that requires
    grad; with ``fast_mode``, each output in one random direction by each input in another. Use
    float64. Two calls may differ by ``nondet_tol``. Raises ``GradcheckError`` where they disagree,
    or returns False when not ``raise_exception``.
    """
    arguments = _tuple(inputs)
    wanted = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ArgumentError("gradcheck expects at least one input tensor to require gradient")
    _check_arguments(arguments, wanted)
    try:
        check = _Check(func, arguments, eps, atol, rtol)
        check.repeats(nondet_tol)
        for case in _cases(check.outputs, arguments, wanted, fast_mode):
            check.agrees(case, nondet_tol)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    fast_mode: bool = False,
) -> bool:
    """Whether the gradients of the gradients of ``func`` equal finite differences of them.

    The gradients are taken for ``grad_outputs``, random unless given; options as ``gradcheck``.
    """
    arguments = _tuple(inputs)
    if grad_outputs is None:
        outputs = _float_outputs(func(*arguments))
        pushed = tuple(wrap(_direction(y._data)).requires_grad_() for y in outputs)
    else:
        pushed = _tuple(grad_outputs)

    def gradients(*both: Any) -> tuple[Tensor, ...]:
        inner, weights = both[: len(arguments)], both[len(arguments) :]
        wanted = [x for x in inner if isinstance(x, Tensor) and x.requires_grad]
        outputs = _float_outputs(func(*inner))
        live = [(y, w) for y, w in zip(outputs, weights, strict=True) if y.requires_grad]
        found = grad(
            [y for y, _ in live], wanted, [w for _, w in live], create_graph=True, allow_unused=True
        )
        return tuple(g for g in found if g is not None)

    return gradcheck(
        gradients,
        (*arguments, *pushed),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        fast_mode=fast_mode,
    )


class _Check:
    """One function at one point."""

    def __init__(
        self,
        func: Callable[..., Any],
        inputs: tuple[Any, ...],
        eps: float,
        atol: float,
        rtol: float,
    ) -> None:
        self.func, self.inputs, self.eps, self.atol, self.rtol = func, inputs, eps, atol, rtol
        self.outputs = _float_outputs(func(*inputs))
        self.values = [y._data.copy() for y in self.outputs]

    def repeats(self, tolerance: float) -> None:
        """Refuse a function whose second call differs."""
        for y, again in zip(self.values, self.forward(), strict=True):
            if not np.allclose(y, again, rtol=0, atol=tolerance, equal_nan=True):
                raise GradcheckError(
                    "the function is not deterministic: two calls with the same inputs differ by "
                    f"{np.max(np.abs(y - again)):.3g}. Seed random numbers inside it, or give "
                    "nondet_tol."
                )

    def forward(self) -> list[Array]:
        with no_grad():
            return [y._data.copy() for y in _float_outputs(self.func(*self.inputs))]

    def agrees(self, case: Case, nondet_tol: float) -> None:
        """Compare the derivative of one output along one direction of one input."""
        o, i, v, u = case
        analytical = self.analytical(case)
        left, right = self.one_sided(case)
        numerical = (left + right) / 2
        if not np.isclose(analytical, numerical, rtol=self.rtol, atol=self.atol, equal_nan=True):
            raise GradcheckError(
                f"Jacobian mismatch for output {o} with respect to input {i}"
                f"{_place('output', v)}{_place('input', u)}:\n"
                f"numerical:  {numerical:.9g}\nanalytical: {analytical:.9g}"
                + self._advice(case, left, right)
            )
        again = self.analytical(case)
        if abs(again - analytical) > nondet_tol:
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with the same input and "
                f"grad_output twice gives {analytical:.9g} and {again:.9g} for output {o} with "
                f"respect to input {i}; the tolerance for nondeterminism was {nondet_tol}."
            )

    def analytical(self, case: Case) -> float:
        o, i, v, u = case
        y, x = self.outputs[o], self.inputs[i]
        if not y.requires_grad:
            return 0.0
        (found,) = grad(y, x, wrap(v), retain_graph=True, allow_unused=True)
        return 0.0 if found is None else float(np.sum(found._data * u))

    def one_sided(self, case: Case) -> tuple[float, float]:
        """The difference quotients on either side; their mean is the central one."""
        o, i, v, u = case
        array = self.inputs[i].detach().numpy()  # shares memory: func may hold the tensor itself
        start = array.copy()
        try:
            values = []
            for step in (-self.eps, self.eps):
                np.add(start, step * u, out=array)
                values.append(float(np.sum(self.forward()[o] * v)))
        finally:
            array[...] = start
        centre = float(np.sum(self.values[o] * v))
        return (centre - values[0]) / self.eps, (values[1] - centre) / self.eps

    def _advice(self, case: Case, left: float, right: float) -> str:
        if self.inputs[case[1]].dtype is not dt.float64:
            return "\nThe input is not float64: differences in lower precision are too inexact."
        if not np.isclose(left, right, rtol=10 * self.rtol, atol=10 * self.atol):
            return (
                f"\nThe difference quotients to the left ({left:.6g}) and right ({right:.6g}) "
                "disagree: the function seems not differentiable there. Move the inputs away from "
                "kinks and jumps."
            )
        return ""


def _place(what: str, direction: Array) -> str:
    """Where a one-hot direction points; random ones point everywhere."""
    spots = np.argwhere(direction)
    return f", {what} element {tuple(map(int, spots[0]))}" if len(spots) == 1 else ""


def _cases(
    outputs: Sequence[Tensor], inputs: Sequence[Any], wanted: Sequence[int], fast: bool
) -> Iterator[Case]:
    for o, y in enumerate(outputs):
        for i in wanted:
            if fast:
                yield o, i, _direction(y._data), _direction(inputs[i]._data)
                continue
            for v in _one_hots(y._data):
                for u in _one_hots(inputs[i]._data):
                    yield o, i, v, u


def _one_hots(like: Array) -> Iterator[Array]:
    for place in np.ndindex(like.shape):
        found = np.zeros(like.shape, like.dtype)
        found[place] = 1
        yield found


def _direction(like: Array) -> Array:
    """A fixed random direction for each shape, no component near zero."""
    generator = np.random.default_rng(like.size)
    size = generator.uniform(0.5, 1.5, like.shape)
    return (size * generator.choice([-1.0, 1.0], like.shape)).astype(like.dtype)


def _tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _float_outputs(found: Any) -> list[Tensor]:
    return [
        y for y in _tuple(found) if isinstance(y, Tensor) and y.dtype.is_floating_point
    ]


def _check_arguments(inputs: Sequence[Any], wanted: Sequence[int]) -> None:
    for i in wanted:
        x = inputs[i]
        if x.dtype is not dt.float64:
            warnings.warn(
                f"Input #{i} requires gradient and is {x.dtype.name}, not float64: this check "
                "will likely fail",
                stacklevel=3,
            )
        if any(s == 0 and n > 1 for s, n in zip(x._data.strides, x._data.shape, strict=True)):
            raise ArgumentError(
                f"input #{i} has elements that share memory, so one cannot be moved alone; give "
                "gradcheck a clone()"
            )
