"""How fast recurrent layers are: compiled kernels beside PyTorch's LSTM, GRU and RNN.

    python benchmarks/recurrent.py
    python benchmarks/recurrent.py --threads 1 --only lstm,50,32,32,128 --rounds 9

Shapes are (kind, steps, batch, inputs, hidden). "With gradients" is forward, the walk back, and
the gradients of inputs, weights and biases. Both libraries work in one process, round by round in
turn; the table shows the best round, in microseconds. Nothing else should run meanwhile.
"""

import argparse
from typing import Any

import torch
from runner import Runner, Timing, best, repeated
from torch import nn

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, Plan, packed, stored
from ganglion.compiler.kernels.gemm import product
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.kernels.recurrent import gru_layer, lstm_layer, rnn_layer
from ganglion.compiler.kernels.recurrent_grad import (
    gru_layer_grad,
    lstm_layer_grad,
    rnn_layer_grad,
)

Shape = tuple[str, int, int, int, int]
SHAPES: tuple[Shape, ...] = (
    ("lstm", 50, 32, 32, 128),
    ("gru", 50, 32, 32, 128),
    ("rnn", 50, 32, 32, 128),
    ("lstm", 50, 1, 32, 128),
    ("lstm", 20, 16, 100, 100),
    ("lstm", 20, 32, 512, 512),
)
GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def layouts(shape: Shape) -> dict[str, Layout]:
    """All operands of a layer and its gradients, by the names of the records."""
    kind, steps, batch, inputs, hidden = shape
    wide = GATES[kind] * hidden
    sizes: dict[str, tuple[int, ...]] = {
        "x": (steps, batch, inputs), "w_ih": (wide, inputs), "w_hh": (wide, hidden),
        "b_ih": (wide,), "b_hh": (wide,), "gates": (steps, batch, 4 * hidden),
        "dx": (steps, batch, inputs), "dw_ih": (wide, inputs), "dw_hh": (wide, hidden),
        "db": (1, wide), "ones": (1, steps * batch),
    }  # fmt: skip
    sizes |= dict.fromkeys(("h", "c", "dc", "dh"), (batch, hidden))
    sizes |= dict.fromkeys(("y", "dy", "cells", "before"), (steps, batch, hidden))
    sizes |= dict.fromkeys(("pre", "pre_x", "pre_h"), (steps, batch, wide))
    return {name: packed(dt.float32, size) for name, size in sizes.items()}


def flat(layout: Layout, turned: bool = False) -> Layout:
    """A sequence as a matrix of all its rows, or that transposed."""
    steps, batch, wide = layout.shape
    rows = steps * batch
    if turned:
        return Layout(layout.dtype, (wide, rows), (1, wide))
    return Layout(layout.dtype, (rows, wide), (wide, 1))


def weight_plans(at: dict[str, Layout], by_x: str, by_h: str) -> list[tuple[Plan, str]]:
    """Gradients of inputs, weights and biases from the slopes of the gates."""
    steps = at["y"].shape[0]
    later = Layout(dt.float32, (steps - 1, *at["h"].shape), at["y"].strides, 0, at["y"].numel)
    moved = Layout(later.dtype, later.shape, later.strides, at["h"].numel, later.size)
    first = Layout(dt.float32, at["h"].shape, at["h"].strides, 0, at["y"].numel)
    shift = [copy(later, moved), copy(at["h"], first)]
    dx = flat(at["dx"])

    def sum_of(a: Layout, b: Layout, to: str) -> Plan:
        return product(a, b, stored(at[to]), (a.shape[0], b.shape[1]))

    return [
        (Plan((), ((shift[0], (0, 2)), (shift[1], (1, 2)))), "y h before"),
        (product(flat(at[by_x]), at["w_ih"], stored(dx), dx.shape), f"{by_x} w_ih dx"),
        (sum_of(flat(at[by_x], True), flat(at["x"]), "dw_ih"), f"{by_x} x dw_ih"),
        (sum_of(flat(at[by_h], True), flat(at["before"]), "dw_hh"), f"{by_h} before dw_hh"),
        (sum_of(at["ones"], flat(at[by_h]), "db"), f"ones {by_h} db"),
    ]


def layer_plans(kind: str, at: dict[str, Layout]) -> list[tuple[Plan, str]]:
    """The layer and its walk back."""
    if kind == "lstm":
        names = "x h c w_ih w_hh b_ih b_hh", "y cells gates", "dy", "c cells gates w_hh", "pre dc"
        functions: Any = lstm_layer, lstm_layer_grad
        absent = ([None], [None, None], [None])
    elif kind == "gru":
        names = "x h w_ih w_hh b_ih b_hh", "y gates", "dy", "h y gates w_hh", "pre_x pre_h dh"
        functions = gru_layer, gru_layer_grad
        absent = ([], [None], [])
    else:
        names = "x h w_ih w_hh b_ih b_hh", "y", "dy", "y w_hh", "pre"
        functions = rnn_layer, rnn_layer_grad
        absent = ([], [], [])
    given = [[at[name] for name in some.split()] for some in names]
    forward = functions[0](*given[0], *absent[0], *given[1])
    backward = functions[1](*given[2], *absent[1], *given[3], *absent[2], *given[4])
    return [(forward, " ".join(names[:2])), (backward, " ".join(names[2:]))]


def checked(shape: Shape) -> tuple[dict[str, Timing], dict[str, Timing]]:
    """Both libraries on the same numbers, after a look at their results."""
    kind, steps, batch, inputs, hidden = shape
    net = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[kind](inputs, hidden)
    x = torch.randn(steps, batch, inputs, requires_grad=True)
    dy = torch.randn(steps, batch, hidden)

    def both() -> torch.Tensor:
        net.zero_grad()
        x.grad = None
        y = net(x)[0]
        y.backward(dy)
        return y

    @torch.no_grad()
    def alone() -> torch.Tensor:
        return net(x)[0]

    at = layouts(shape)
    plans = layer_plans(kind, at)
    by_x, by_h = ("pre_x", "pre_h") if kind == "gru" else ("pre", "pre")
    runners = Runner(at, plans[:1]), Runner(at, [*plans, *weight_plans(at, by_x, by_h)])
    y = both().detach().numpy()
    weights = dict(zip(("w_ih", "w_hh", "b_ih", "b_hh"), net.parameters(), strict=True))
    for runner in runners:
        for name, value in {**weights, "x": x, "dy": dy, "ones": torch.ones(1)}.items():
            runner.view(name)[...] = value.detach().numpy()
        runner.seconds(1, 1)
        assert abs(runner.view("y") - y).max() < 1e-4, f"{shape}: wrong result"
    grads = {"dx": x, "dw_ih": net.weight_ih_l0, "dw_hh": net.weight_hh_l0, "db": net.bias_hh_l0}
    for name, value in grads.items():
        expected = value.grad.numpy()
        error = abs(runners[1].view(name) - expected).max() / abs(expected).max()
        assert error < 1e-4, f"{shape}: {name} is wrong by {error}"
    return (
        {"ganglion": runners[0].seconds, "PyTorch": repeated(alone)},
        {"ganglion": runners[1].seconds, "PyTorch": repeated(both)},
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", nargs="*", default=[], help="shapes such as lstm,50,32,32,128")
    given = options.parse_args()
    only = [(kind, *map(int, rest)) for kind, *rest in (x.split(",") for x in given.only)]
    for shape in only or SHAPES:
        kind, steps, batch, inputs, hidden = shape
        work = 2 * steps * batch * GATES[kind] * hidden * (inputs + hidden)
        for name, peers, share in zip(
            ("forward", "with gradients"), checked(shape), (1, 3), strict=True
        ):
            line = f"{kind:4} {shape[1:]!s:18} {name:14}"
            for threads in given.threads:
                found = best(peers, threads, given.rounds)
                times = "  ".join(f"{peer} {t * 1e6:7.0f} us" for peer, t in found.items())
                rate = share * work / found["ganglion"] / 1e9
                line += f" | {threads} threads: {times} ({rate:.0f} GFLOP/s)"
            print(line, flush=True)


if __name__ == "__main__":
    main()
