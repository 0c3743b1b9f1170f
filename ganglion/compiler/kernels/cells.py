"""One step of a recurrent cell, on registers: vectors of hidden units.

A cell's weights come in ``gates`` blocks of hidden size. ``sums`` are what the two products with
inputs and states give, biases included: ``by_x[g]`` and ``by_h[g]`` say into which of them gate g
goes. Names and formulas are those of ``ops/lstm.py``, ``ops/gru.py`` and ``ops/recurrent.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ganglion.compiler.kernels.exponential import apply
from ganglion.compiler.text import Code, Reg, const
from ganglion.ops.transcendental import sigmoid, tanh


class State(NamedTuple):
    """What a step starts from."""

    h: Reg
    c: Reg | None = None


class Step(NamedTuple):
    """What a step gives: the state, a cell's memory, and what backward needs again."""

    h: Reg
    c: Reg | None
    gates: Sequence[Reg]


class Back(NamedTuple):
    """What a step back gives: slopes of what x and h added, and what passes by the weights."""

    by_x: Sequence[Reg]
    by_h: Sequence[Reg]
    carry: Reg | None


class Seen(NamedTuple):
    """What a step back starts from; a cell that has no such thing does not look at it.

    ``dh``: gradient of the state; ``carry``: that of the memory; ``dgates``: those given for the
    gates, if any; ``c``: the memory after the step; ``before``: the memory (LSTM) or the state
    (GRU) before it; ``gates``: as the forward step gave them (plain: the state).
    """

    dh: Reg
    carry: Reg
    dgates: Sequence[Reg] | None
    c: Reg
    before: Reg
    gates: Sequence[Reg]


@dataclass(frozen=True)
class Cell:
    """How a cell is computed, forth and back.

    Backward reads the gates from the buffer ``saved``, and what a step started from out of
    ``first`` and ``history``.
    """

    name: str
    gates: int
    by_x: tuple[int, ...]
    by_h: tuple[int, ...]
    forward: Callable[[Code, Sequence[Reg], State], Step]
    backward: Callable[[Code, Seen], Back]
    saved: str = "gates"
    first: str = ""
    history: str = ""

    @property
    def sums(self) -> int:
        return 1 + max(*self.by_x, *self.by_h)


def _lstm(code: Code, sums: Sequence[Reg], state: State) -> Step:
    assert state.c is not None
    i, f, o = (apply(code, sigmoid, sums[gate]) for gate in (0, 1, 3))
    g = apply(code, tanh, sums[2])
    c = code.fma(f, state.c, code.fmul(i, g))
    return Step(code.fmul(o, apply(code, tanh, c)), c, (i, f, g, o))


def _lstm_back(code: Code, s: Seen) -> Back:
    i, f, g, o = s.gates
    out = apply(code, tanh, s.c)
    dc = code.fma(code.fmul(s.dh, o), _tanh_slope(code, out), s.carry)
    pushed = _plus(
        code, (code.fmul(dc, g), code.fmul(dc, s.before), code.fmul(dc, i), code.fmul(s.dh, out)),
        s.dgates,
    )  # fmt: skip
    slopes = [_sigmoid_slope(code, gate) for gate in (i, f, g, o)]
    slopes[2] = _tanh_slope(code, g)
    pre = [code.fmul(x, slope) for x, slope in zip(pushed, slopes, strict=True)]
    return Back(pre, pre, code.fmul(dc, f))


def _gru(code: Code, sums: Sequence[Reg], state: State) -> Step:
    r, z = apply(code, sigmoid, sums[0]), apply(code, sigmoid, sums[1])
    n = apply(code, tanh, code.fma(r, sums[3], sums[2]))
    h = code.fma(z, code.fsub(state.h, n), n)
    return Step(h, None, (r, z, n, sums[3]))


def _gru_back(code: Code, s: Seen) -> Back:
    r, z, n, kept = s.gates
    one = const(1, n.type)
    dr, dz, dn, dkept = s.dgates or (None,) * 4
    dn = _add(code, code.fmul(s.dh, code.fsub(one, z)), dn)
    dn = code.fmul(dn, _tanh_slope(code, n))
    dz = _add(code, code.fmul(s.dh, code.fsub(s.before, n)), dz)
    dz = code.fmul(dz, _sigmoid_slope(code, z))
    dr = _add(code, code.fmul(dn, kept), dr)
    dr = code.fmul(dr, _sigmoid_slope(code, r))
    dkept = _add(code, code.fmul(dn, r), dkept)
    return Back((dr, dz, dn), (dr, dz, dkept), code.fmul(s.dh, z))


def _rnn_tanh(code: Code, sums: Sequence[Reg], state: State) -> Step:
    return Step(apply(code, tanh, sums[0]), None, ())


def _rnn_tanh_back(code: Code, s: Seen) -> Back:
    pre = code.fmul(s.dh, _tanh_slope(code, s.gates[0]))
    return Back((pre,), (pre,), None)


def _rnn_relu(code: Code, sums: Sequence[Reg], state: State) -> Step:
    zero = const(0, sums[0].type)
    return Step(code.select(code.compare("olt", sums[0], zero), zero, sums[0]), None, ())


def _rnn_relu_back(code: Code, s: Seen) -> Back:
    zero = const(0, s.dh.type)
    pre = code.select(code.compare("ogt", s.gates[0], zero), s.dh, zero)
    return Back((pre,), (pre,), None)


def _sigmoid_slope(code: Code, s: Reg) -> Reg:
    return code.fmul(s, code.fsub(const(1, s.type), s))


def _tanh_slope(code: Code, t: Reg) -> Reg:
    return code.fma(code.fneg(t), t, const(1, t.type))


def _add(code: Code, x: Reg, y: Reg | None) -> Reg:
    return x if y is None else code.fadd(x, y)


def _plus(code: Code, found: Sequence[Reg], given: Sequence[Reg] | None) -> Sequence[Reg]:
    return found if given is None else [code.fadd(*pair) for pair in zip(found, given, strict=True)]


LSTM = Cell("lstm", 4, (0, 1, 2, 3), (0, 1, 2, 3), _lstm, _lstm_back, "gates", "c", "cells")
GRU = Cell("gru", 3, (0, 1, 2), (0, 1, 3), _gru, _gru_back, "gates", "h", "y")
RNN = {
    "tanh": Cell("rnn_tanh", 1, (0,), (0,), _rnn_tanh, _rnn_tanh_back, "y"),
    "relu": Cell("rnn_relu", 1, (0,), (0,), _rnn_relu, _rnn_relu_back, "y"),
}
