"""How fast convolutions and pooling are: compiled kernels beside PyTorch with channels last.

    python benchmarks/conv.py
    python benchmarks/conv.py --threads 1 --only 64,32,14,64,3,1,1 --rounds 9

Shapes are (batch, channels, size, channels of the result, kernel, stride, groups); images are
square, padding is half the kernel. Each is three passes: forward, the gradient of the input, that
of the weight; what kernels do to pack weights is part of their time. "direct" does without
Winograd's algorithm. The table shows the best of some rounds in turn: milliseconds, and GFLOP/s
as if every product had been multiplied. Nothing else should run meanwhile.
"""

import argparse
from collections.abc import Mapping

import torch
from runner import Runner, Timing, best, repeated
from torch.nn import functional

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, Plan, packed, stored
from ganglion.compiler.kernels.axes import channels_last
from ganglion.compiler.kernels.conv import (
    conv_forward,
    conv_input,
    conv_weight,
    preferred_layout,
)
from ganglion.compiler.kernels.pool import max_pool, max_pool_grad

SHAPES = (
    (64, 1, 28, 32, 3, 1, 1),
    (64, 32, 14, 64, 3, 1, 1),
    (32, 3, 32, 16, 3, 1, 1),
    (32, 16, 32, 16, 3, 1, 1),
    (32, 16, 32, 32, 3, 2, 1),
    (32, 16, 32, 32, 1, 2, 1),
    (32, 32, 16, 32, 3, 1, 1),
    (32, 64, 8, 64, 3, 1, 1),
    (32, 64, 56, 64, 3, 1, 1),
    (32, 128, 28, 128, 3, 1, 1),
    (32, 256, 14, 256, 3, 1, 1),
    (32, 256, 14, 64, 1, 1, 1),
    (32, 3, 112, 64, 7, 2, 1),
    (32, 64, 28, 64, 3, 1, 64),
    (32, 64, 28, 64, 3, 1, 16),
    (1, 64, 56, 64, 3, 1, 1),
)
POOLS = ((64, 32, 28, 2, 2, 0), (32, 64, 56, 3, 2, 1))
PASSES = ("forward", "input", "weight")

Shape = tuple[int, int, int, int, int, int, int]


def layouts(shape: Shape) -> tuple[dict[str, Layout], dict[str, object]]:
    """Operands and results as the kernels like them, and the parameters."""
    n, ins, size, outs, kernel, stride, groups = shape
    pad = kernel // 2
    params = {
        "stride": (stride, stride), "padding": ((pad, pad),) * 2, "dilation": (1, 1),
        "groups": groups,
    }  # fmt: skip
    out = (size + 2 * pad - kernel) // stride + 1
    x, g = (packed(dt.float32, s) for s in ((n, ins, size, size), (n, outs, out, out)))
    w = packed(dt.float32, (outs, ins // groups, kernel, kernel))
    source, _ = preferred_layout("conv", x, w, **params)
    gradient, _ = preferred_layout("conv_input", g, w, (size, size), **params)
    both = preferred_layout("conv_weight", x, g, (kernel, kernel), **params)
    found = {
        "x": source, "w": w, "y": channels_last(dt.float32, g.shape), "g": gradient,
        "dx": channels_last(dt.float32, x.shape),
        "dw": packed(dt.float32, (outs, ins // groups * kernel * kernel)),
        "wx": both[0], "wg": both[1],
    }  # fmt: skip
    return found, params


def plans(shape: Shape, direct: bool) -> tuple[dict[str, Layout], dict[str, tuple[Plan, str]]]:
    at, params = layouts(shape)
    params["direct"] = direct
    size, kernel = at["dx"].shape[2:], at["w"].shape[2:]
    found = {
        "forward": (conv_forward(at["x"], at["w"], stored(at["y"]), **params), "x w y"),
        "input": (conv_input(at["g"], at["w"], stored(at["dx"]), size, **params), "g w dx"),
        "weight": (conv_weight(at["wx"], at["wg"], stored(at["dw"]), kernel, **params), "wx wg dw"),
    }  # fmt: skip
    return at, found


def peers(shape: Shape) -> dict[str, dict[str, Timing]]:
    """For each pass all libraries, after a look at their results."""
    n, ins, size, outs, kernel, stride, groups = shape
    pad = kernel // 2
    x, w = torch.randn(n, ins, size, size), torch.randn(outs, ins // groups, kernel, kernel) * 0.1
    y = functional.conv2d(x, w, None, stride, pad, 1, groups)
    g = torch.randn(y.shape)
    last = [t.to(memory_format=torch.channels_last) for t in (x, w, g)]

    def theirs(number: int) -> object:
        wanted = [i == number for i in range(3)]
        return torch.ops.aten.convolution_backward(
            last[2], last[0], last[1], None, [stride] * 2, [pad] * 2, [1] * 2, False, [0] * 2,
            groups, wanted,
        )  # fmt: skip

    calls = {
        "forward": lambda: functional.conv2d(last[0], last[1], None, stride, pad, 1, groups),
        "input": lambda: theirs(0),
        "weight": lambda: theirs(1),
    }
    expected = {"forward": y, "input": theirs(0)[0], "weight": theirs(1)[1].reshape(outs, -1)}
    values = {"x": x, "w": w, "g": g, "wx": x, "wg": g}
    found: dict[str, dict[str, Timing]] = {name: {} for name in PASSES}
    for peer, direct in (("ganglion", False), ("direct", True)):
        at, steps = plans(shape, direct)
        for name in PASSES:
            runner = Runner(at, [steps[name]])
            check(runner, values, steps[name][1].split()[-1], expected[name], f"{shape} {name}")
            found[name][peer] = runner.seconds
    for name in PASSES:
        found[name]["PyTorch"] = repeated(calls[name])
    return found


def check(
    runner: Runner, values: Mapping[str, torch.Tensor], result: str, expected: torch.Tensor,
    what: str,
) -> None:  # fmt: skip
    for name, value in values.items():
        runner.view(name)[...] = value.numpy()
    runner.seconds(1, 1)
    error = abs(runner.view(result) - expected.numpy()).max() / expected.std().item()
    assert error < 1e-3, f"{what}: wrong result, error {error:.1e}"


def pooling(shape: tuple[int, ...], threads: int, rounds: int) -> str:
    """A line about max pooling, forward and backward."""
    n, channels, size, kernel, stride, pad = shape
    x = torch.randn(n, channels, size, size)
    y = functional.max_pool2d(x, kernel, stride, pad)
    window = {
        "kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": (pad,) * 2,
        "dilation": (1, 1),
    }  # fmt: skip
    whole, part = channels_last(dt.float32, x.shape), channels_last(dt.float32, y.shape)
    places = channels_last(dt.uint8, y.shape)
    at = {"x": whole, "y": part, "at": places, "g": part, "dx": whole}
    forward = max_pool(whole, part, places, **window), "x y at"
    back = max_pool_grad(part, places, stored(whole), (size, size), **window), "g at dx"
    ours = [Runner(at, [forward]), Runner(at, [forward, back])]
    last = x.to(memory_format=torch.channels_last)
    leaf = last.clone(memory_format=torch.preserve_format).requires_grad_()
    ones = torch.ones_like(y).to(memory_format=torch.channels_last)

    def both() -> None:
        functional.max_pool2d(leaf, kernel, stride, pad).backward(ones)

    calls = [lambda: functional.max_pool2d(last, kernel, stride, pad), both]
    line = f"{shape!s:28s}"
    for runner, call in zip(ours, calls, strict=True):
        runner.view("x")[...] = x.numpy()
        found = best({"ganglion": runner.seconds, "PyTorch": repeated(call)}, threads, rounds)
        line += "".join(f"{1e3 * t:10.3f}" for t in found.values())
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="one shape, as seven numbers with commas")
    options = parser.parse_args()
    shapes = [tuple(map(int, options.only.split(",")))] if options.only else SHAPES
    print(f"{'shape':32s}{'pass':>8s}", *(f"{p:>18s}" for p in ("ganglion", "direct", "PyTorch")))
    for shape in shapes:
        n, ins, size, outs, kernel, stride, groups = shape
        out = (size + kernel // 2 * 2 - kernel) // stride + 1
        work = 2e-9 * n * out * out * outs * ins / groups * kernel * kernel
        for name, timings in peers(shape).items():
            found = best(timings, options.threads, options.rounds)
            cells = "".join(f"{1e3 * t:10.3f} {work / t:8.0f}" for t in found.values())
            print(f"{shape!s:32s}{name:>8s}{cells}", flush=True)
    if not options.only:
        print("\nmax pooling, ms: forward, then forward and backward; ganglion and PyTorch each")
        for shape in POOLS:
            print(pooling(shape, options.threads, options.rounds), flush=True)


if __name__ == "__main__":
    main()
