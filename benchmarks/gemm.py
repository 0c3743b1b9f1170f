"""How fast matrix products are, in GFLOP/s: compiled kernels beside NumPy's BLAS and PyTorch.

    python benchmarks/gemm.py
    python benchmarks/gemm.py --threads 1 --only 32,128,784 --rounds 9

Each shape (rows, out, in) is the three products of a linear layer: forward x Wᵀ, gradient of the
input g W, gradient of the weight gᵀ x; packing that the kernels do is part of their time. All
peers work in one process, round by round in turn; the table shows the best round, since what
others do on the machine only ever slows a product down. Nothing else should run meanwhile.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from runner import Runner, Timing, best, repeated

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.compiler.kernel import Layout, packed, stored
from ganglion.compiler.kernels.gemm import product

SHAPES = (
    (32, 128, 784),
    (32, 10, 128),
    (128, 128, 784),
    (1, 512, 512),
    (8, 512, 512),
    (32, 512, 160),
    (1600, 512, 160),
    (1024, 384, 128),
    (1024, 128, 128),
    (1024, 512, 128),
    (1024, 128, 512),
    (1024, 80, 128),
    (64, 64, 64),
    (128, 128, 128),
    (512, 512, 512),
    (1024, 1024, 1024),
    (20000, 64, 64),
)

Array = np.ndarray[Any, Any]


def linear(rows: int, out: int, inner: int) -> Iterator[tuple[str, tuple[int, int, int], str]]:
    """The three products of a linear layer: name, (m, n, k), which operands are transposed."""
    yield "x Wᵀ", (rows, out, inner), "b"
    yield "g W", (rows, inner, out), ""
    yield "gᵀ x", (out, inner, rows), "a"


def ours(size: tuple[int, int, int], turned: str, x: Array, y: Array) -> Runner:
    """The compiled product, checked against NumPy's."""
    m, n, k = size
    a, b, c = (packed(dt.float32, shape) for shape in ((m, k), (k, n), (m, n)))
    a = Layout(a.dtype, a.shape, (1, m)) if "a" in turned else a
    b = Layout(b.dtype, b.shape, (1, k)) if "b" in turned else b
    runner = Runner({"a": a, "b": b, "c": c}, [(product(a, b, stored(c), (m, n)), "a b c")])
    runner.view("a")[...], runner.view("b")[...] = x, y
    runner.seconds(1, 1)
    error = abs(runner.view("c") - x.astype(np.float64) @ y).max() / k**0.5
    assert error < 1e-5, f"{size}: wrong by {error}"
    return runner


def numpy_timing(x: Array, y: Array) -> Timing:
    """NumPy's product into an array that is there."""
    out = np.empty((len(x), y.shape[1]), np.float32)
    product = repeated(lambda: np.matmul(x, y, out=out))

    def timing(runs: int, threads: int) -> float:
        blas.set_num_threads(threads)
        blas._pool.use(large=True)
        return product(runs, threads)

    return timing


def torch_timing(x: Array, y: Array) -> Timing:
    """PyTorch's product into a tensor that is there."""
    left, right = torch.from_numpy(x), torch.from_numpy(y)
    out = torch.empty(len(x), y.shape[1])
    return repeated(lambda: torch.mm(left, right, out=out))


def operands(size: tuple[int, int, int], turned: str) -> list[Array]:
    """Random operands, stored as a linear layer stores them."""
    m, n, k = size
    rng = np.random.default_rng(0)
    x = rng.standard_normal((k, m) if "a" in turned else (m, k)).astype(np.float32)
    y = rng.standard_normal((n, k) if "b" in turned else (k, n)).astype(np.float32)
    return [x.T if "a" in turned else x, y.T if "b" in turned else y]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    options.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", nargs="*", default=[], help="shapes such as 32,128,784")
    given = options.parse_args()
    shapes = [tuple(map(int, x.split(","))) for x in given.only] or SHAPES
    for shape in shapes:
        for name, size, turned in linear(*shape):
            x, y = operands(size, turned)
            peers = {
                "ganglion": ours(size, turned, x, y).seconds,
                "NumPy": numpy_timing(x, y),
                "PyTorch": torch_timing(x, y),
            }
            line = f"{name:5} {size!s:20}"
            for threads in given.threads:
                found = best(peers, threads, given.rounds)
                flops = 2e-9 * size[0] * size[1] * size[2]
                each = "  ".join(f"{peer} {flops / t:6.1f}" for peer, t in found.items())
                line += f" | {threads} thread{'s' * (threads > 1)}: {each}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
