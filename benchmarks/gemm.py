"""How fast matrix products are, in GFLOP/s: compiled kernels beside NumPy's BLAS and PyTorch.

    python benchmarks/gemm.py
    python benchmarks/gemm.py --threads 1 --only 32,128,784 --rounds 9

Each shape (rows, out, in) is the three products of a linear layer: forward x Wᵀ, gradient of the
input g W, gradient of the weight gᵀ x; packing that the kernels do is part of their time. All
peers work in one process, round by round in turn; the table shows the best round, since what
others do on the machine only ever slows a product down. Nothing else should run meanwhile.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion import blas
from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.kernel import Kernel, Layout, Plan, packed, stored
from ganglion.compiler.kernels.gemm import product
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.target import host
from ganglion.compiler.text import Code, Index, Module, Reg

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
SHORT = 2e-3  # seconds of one timing

Array = np.ndarray[Any, Any]


class Runner:
    """A plan as one native function: its kernels with barriers between them, again and again."""

    def __init__(self, plan: Plan, operands: Sequence[Layout]) -> None:
        self.plan = plan
        layouts = [*operands, *plan.temporaries]
        self.buffers = [allocate(max(64, x.elements * x.dtype.numpy.itemsize)) for x in layouts]
        self.block = np.array([0, *(buffer.ctypes.data for buffer in self.buffers)], np.int64)
        self.library = load(objects([self._text()], host()))

    def view(self, number: int, layout: Layout) -> Array:
        """The array in an operand's buffer."""
        flat = self.buffers[number].view(layout.dtype.numpy)[layout.offset :]
        steps = [s * layout.dtype.numpy.itemsize for s in layout.strides]
        return np.lib.stride_tricks.as_strided(flat, layout.shape, steps)

    def seconds(self, times: int, threads: int) -> float:
        """The mean of that many runs."""
        self.block[0] = times
        function, block = self.library.address("run"), self.block.ctypes.data
        start = time.perf_counter()
        pool.run(function, block, threads=threads, hold_gil=True)
        return (time.perf_counter() - start) / times

    def _text(self) -> str:
        module = Module(host().fma, host().attributes)
        names: dict[Any, str] = {}
        for kernel, _ in self.plan.steps:
            if kernel.key not in names:
                names[kernel.key] = f"kernel{len(names)}"
                _define(module, names[kernel.key], kernel)
        types = {"block": "ptr", "thread": "i64", "threads": "i64", "control": "ptr"}
        code = module.function("run", [(type, name) for name, type in types.items()])

        def once(_: Reg) -> None:
            for kernel, numbers in self.plan.steps:
                _call(code, names[kernel.key], kernel, numbers)

        code.loop(0, code.load(code.parameters[0], "i64"), 1, (), once)
        code.ret()
        return module.text()


def _define(module: Module, name: str, kernel: Kernel) -> None:
    pointers = [("ptr", f"b{i}") for i in range(len(kernel.operands))]
    code = module.function(name, [*pointers, ("ptr", "scratch"), ("i64", "low"), ("i64", "high")])
    *given, scratch, low, high = code.parameters
    kernel.emit(code, given, scratch, low, high)
    code.ret()


def _call(code: Code, name: str, kernel: Kernel, numbers: Sequence[int]) -> None:
    """A thread's share of the tasks, then the barrier."""
    block, thread, threads, control = code.parameters

    def share(number: Index) -> Reg:
        scaled = code.mul(number, kernel.tasks)
        return code.pure("i64", f"udiv i64 {scaled}, {threads.name}".replace("i64 i64", "i64"))

    low, high = share(thread), share(code.add(thread, 1))
    places = [code.at_index(block, 1 + number, "ptr") for number in numbers]
    pointers = ", ".join(str(code.load(place, "ptr")) for place in places)
    code.when(
        code.compare("slt", low, high),
        lambda: code.line(f"call void @{name}({pointers}, ptr null, {low}, {high})"),
    )
    barrier = code.load(control, "ptr")
    code.line(f"call void {barrier.name}({control}, {thread}, {threads})")


# --- peers ----------------------------------------------------------------------------------------

Timing = Callable[[int, int], float]  # (runs, threads) -> seconds of one


def linear(rows: int, out: int, inner: int) -> Iterator[tuple[str, tuple[int, int, int], str]]:
    """The three products of a linear layer: name, (m, n, k), which operands are transposed."""
    yield "x Wᵀ", (rows, out, inner), "b"
    yield "g W", (rows, inner, out), ""
    yield "gᵀ x", (out, inner, rows), "a"


def ours(size: tuple[int, int, int], turned: str, given: Sequence[Array]) -> Runner:
    """The compiled product, checked against NumPy's."""
    m, n, k = size
    a, b, c = (packed(dt.float32, shape) for shape in ((m, k), (k, n), (m, n)))
    a = Layout(a.dtype, a.shape, (1, m)) if "a" in turned else a
    b = Layout(b.dtype, b.shape, (1, k)) if "b" in turned else b
    runner = Runner(product(a, b, stored(c), (m, n)), (a, b, c))
    for number, (layout, array) in enumerate(zip((a, b), given, strict=True)):
        runner.view(number, layout)[...] = array
    runner.seconds(1, 1)
    expected = given[0].astype(np.float64) @ given[1]
    error = abs(runner.view(2, c) - expected).max() / k**0.5
    assert error < 1e-5, f"{size}: wrong by {error}"
    return runner


def numpy_timing(x: Array, y: Array) -> Timing:
    """NumPy's product into an array that is there."""
    out = np.empty((len(x), y.shape[1]), np.float32)

    def timing(runs: int, threads: int) -> float:
        blas.set_num_threads(threads)
        blas._pool.use(large=True)
        return repeated(lambda: np.matmul(x, y, out=out), runs)

    return timing


def torch_timing(x: Array, y: Array) -> Timing | None:
    """PyTorch's product into a tensor that is there, if PyTorch is installed."""
    try:
        import torch
    except ImportError:
        return None
    left, right = torch.from_numpy(x), torch.from_numpy(y)
    out = torch.empty(len(x), y.shape[1])

    def timing(runs: int, threads: int) -> float:
        torch.set_num_threads(threads)
        return repeated(lambda: torch.mm(left, right, out=out), runs)

    return timing


def repeated(call: Callable[[], Any], runs: int) -> float:
    """The mean of that many calls."""
    start = time.perf_counter()
    for _ in range(runs):
        call()
    return (time.perf_counter() - start) / runs


def operands(size: tuple[int, int, int], turned: str) -> list[Array]:
    """Random operands, stored as a linear layer stores them."""
    m, n, k = size
    rng = np.random.default_rng(0)
    x = rng.standard_normal((k, m) if "a" in turned else (m, k)).astype(np.float32)
    y = rng.standard_normal((n, k) if "b" in turned else (k, n)).astype(np.float32)
    return [x.T if "a" in turned else x, y.T if "b" in turned else y]


def best(peers: dict[str, Timing], flops: int, threads: int, rounds: int) -> dict[str, float]:
    """Each peer's best speed, GFLOP/s."""
    runs = max(1, int(SHORT * 1e11 / flops))
    found = dict.fromkeys(peers, 0.0)
    for _ in range(rounds):
        for name, timing in peers.items():
            pool.park()
            timing(1, threads)
            found[name] = max(found[name], flops / timing(runs, threads) / 1e9)
    return found


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
            runner = ours(size, turned, (x, y))
            found = {"ganglion": runner.seconds, "NumPy": numpy_timing(x, y)}
            if (torch := torch_timing(x, y)) is not None:
                found["PyTorch"] = torch
            line = f"{name:5} {size!s:20}"
            for threads in given.threads:
                speeds = best(found, 2 * size[0] * size[1] * size[2], threads, given.rounds)
                each = "  ".join(f"{peer} {speed:6.1f}" for peer, speed in speeds.items())
                line += f" | {threads} thread{'s' * (threads > 1)}: {each}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
