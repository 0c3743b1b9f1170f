"""Compare gradients with finite differences, of first and second order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.autograd.walk import grad
from ganglion.errors import ArgumentError, GradcheckError
from ganglion.tensor import Tensor, wrap

Array = np.ndarray[Any, Any]


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
        _Check(func, arguments, wanted, eps, fast_mode).run(atol, rtol, nondet_tol)
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
        pushed = tuple(wrap(_random_direction(y._data)[0]).requires_grad_() for y in outputs)
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
    """One function at one point, seen along directions: every element, or one at random."""

    def __init__(
        self,
        func: Callable[..., Any],
        inputs: tuple[Any, ...],
        wanted: Sequence[int],
        eps: float,
        fast: bool,
    ) -> None:
        self.func, self.inputs, self.eps = func, inputs, eps
        self.outputs = _float_outputs(func(*inputs))
        self.values = [y._data.copy() for y in self.outputs]
        along = _random_direction if fast else _one_hots
        self.ways_in = {i: along(inputs[i]._data) for i in wanted}
        self.ways_out = [along(y) for y in self.values]

    def run(self, atol: float, rtol: float, nondet_tol: float) -> None:
        """Raise at the first disagreement."""
        self.repeats(nondet_tol)
        analytical = self.analytical()
        for pair, again in self.analytical().items():
            _check_same(pair, analytical[pair], again, nondet_tol)
        for i in self.ways_in:
            below, above = self.quotients(i, -self.eps), self.quotients(i, self.eps)
            for o in range(len(self.outputs)):
                found, expected = analytical[o, i], (below[o] + above[o]) / 2
                wrong = ~np.isclose(found, expected, rtol=rtol, atol=atol, equal_nan=True)
                if wrong.any():
                    k = int(np.argmax(np.where(wrong, np.abs(found - expected), 0)))
                    self.fail(o, i, k, found, below[o], above[o])

    def forward(self) -> list[Array]:
        return [y._data.copy() for y in _float_outputs(self.func(*self.inputs))]

    def repeats(self, tolerance: float) -> None:
        """Refuse a function whose second call differs."""
        for y, again in zip(self.values, self.forward(), strict=True):
            if not np.allclose(y, again, rtol=0, atol=tolerance, equal_nan=True):
                raise GradcheckError(
                    "the function is not deterministic: two calls with the same inputs differ by "
                    f"{np.max(np.abs(y - again)):.3g}. Seed random numbers inside it, or give "
                    "nondet_tol."
                )

    def analytical(self) -> dict[tuple[int, int], Array]:
        """For each output and input the derivatives, of shape (ways out, ways in)."""
        found = {}
        for o, ways in enumerate(self.ways_out):
            rows = [self._gradients(o, v) for v in ways]
            for column, (i, directions) in enumerate(self.ways_in.items()):
                cells = [[np.sum(row[column] * u) for u in directions] for row in rows]
                found[o, i] = np.array(cells).reshape(len(ways), len(directions))
        return found

    def _gradients(self, o: int, v: Array) -> list[Array | float]:
        y = self.outputs[o]
        if not y.requires_grad:
            return [0.0] * len(self.ways_in)
        xs = [self.inputs[i] for i in self.ways_in]
        found = grad(y, xs, wrap(v), retain_graph=True, allow_unused=True)
        return [0.0 if g is None else g._data for g in found]

    def quotients(self, i: int, step: float) -> list[Array]:
        """For each output the difference quotients on one side, of shape (ways out, ways in).

        The input's memory itself is moved, so that ``func`` may hold the tensor by other means.
        """
        array = self.inputs[i].detach().numpy()
        start = array.copy()
        columns = []
        try:
            for u in self.ways_in[i]:
                np.add(start, step * u, out=array)
                moved = zip(self.forward(), self.values, strict=True)
                columns.append([(y - centre) / step for y, centre in moved])
        finally:
            array[...] = start
        return [self._along(o, columns) for o in range(len(self.values))]

    def _along(self, o: int, columns: list[list[Array]]) -> Array:
        cells = [[np.sum(column[o] * v) for column in columns] for v in self.ways_out[o]]
        return np.array(cells).reshape(len(self.ways_out[o]), len(columns))

    def fail(self, o: int, i: int, k: int, found: Array, below: Array, above: Array) -> None:
        """Say where they disagree, by how much, and why that may be."""
        row, column = divmod(k, found.shape[1])
        left, right = below[row, column], above[row, column]
        raise GradcheckError(
            f"Jacobian mismatch for output {o} with respect to input {i}"
            f"{_place('output', self.ways_out[o][row])}{_place('input', self.ways_in[i][column])}:"
            f"\nnumerical:  {(left + right) / 2:.9g}\nanalytical: {found[row, column]:.9g}"
            + self._advice(i, left, right)
        )

    def _advice(self, i: int, left: float, right: float) -> str:
        if self.inputs[i].dtype is not dt.float64:
            return "\nThe input is not float64: differences in lower precision are too inexact."
        if not np.isclose(left, right, rtol=1e-2, atol=1e-4):
            return (
                f"\nThe difference quotients to the left ({left:.6g}) and right ({right:.6g}) "
                "disagree: the function seems not differentiable there. Move the inputs away from "
                "kinks and jumps."
            )
        return ""


def _check_same(pair: tuple[int, int], one: Array, other: Array, tolerance: float) -> None:
    if not np.allclose(one, other, rtol=0, atol=tolerance, equal_nan=True):
        raise GradcheckError(
            "Backward is not reentrant, i.e., running backward with the same input and grad_output "
            f"twice gives derivatives of output {pair[0]} with respect to input {pair[1]} that "
            f"differ by {np.max(np.abs(one - other)):.3g}; the tolerance for nondeterminism was "
            f"{tolerance}."
        )


def _place(what: str, direction: Array) -> str:
    """Where a one-hot direction points; random ones point everywhere."""
    spots = np.argwhere(direction)
    return f", {what} element {tuple(map(int, spots[0]))}" if len(spots) == 1 else ""


def _one_hots(like: Array) -> list[Array]:
    return list(np.eye(like.size, dtype=like.dtype).reshape(like.size, *like.shape))


def _random_direction(like: Array) -> list[Array]:
    """One fixed direction for each shape, no component near zero."""
    generator = np.random.default_rng(like.size)
    size = generator.uniform(0.5, 1.5, like.shape)
    return [np.asarray(size * generator.choice([-1.0, 1.0], like.shape), like.dtype)]


def _tuple(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, Tensor) else tuple(x)


def _float_outputs(found: Any) -> list[Tensor]:
    return [y for y in _tuple(found) if isinstance(y, Tensor) and y.dtype.is_floating_point]


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
