"""Plans as native functions, timed beside other libraries: what the kernels' benchmarks share."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.kernel import Kernel, Layout, Plan
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.target import host
from ganglion.compiler.text import Code, Index, Module, Reg

THREADS = 8  # most of them
SHORT = 4e-3  # seconds of one timing

Array = np.ndarray[Any, Any]
Timing = Callable[[int, int], float]  # (runs, threads) -> seconds of one


class Runner:
    """Plans, one after the other, as one native function with barriers between the kernels.

    ``plans`` have operands by name; operands of one name are one buffer.
    """

    def __init__(self, operands: Mapping[str, Layout], plans: Sequence[tuple[Plan, str]]) -> None:
        self.operands = dict(operands)
        self.layouts = list(operands.values())
        self.steps: list[tuple[Kernel, list[int]]] = []
        for plan, names in plans:
            self._add(plan, [list(operands).index(name) for name in names.split()])
        self.room = max(kernel.scratch for kernel, _ in self.steps) // 64 * 64 + 128
        sizes = [x.elements * x.dtype.numpy.itemsize for x in self.layouts]
        self.buffers = [allocate(max(64, n)) for n in (*sizes, THREADS * self.room)]
        self.block = np.array([0, *(buffer.ctypes.data for buffer in self.buffers)], np.int64)
        self.library = load(objects([self._text()], host()))

    def _add(self, plan: Plan, given: Sequence[int]) -> None:
        numbers = [*given, *range(len(self.layouts), len(self.layouts) + len(plan.temporaries))]
        self.layouts += plan.temporaries
        self.steps += [(kernel, [numbers[i] for i in own]) for kernel, own in plan.steps]

    def view(self, name: str) -> Array:
        """The array in an operand's buffer."""
        layout, number = self.operands[name], list(self.operands).index(name)
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
        for kernel, _ in self.steps:
            if kernel.key not in names:
                names[kernel.key] = f"kernel{len(names)}"
                kernel.write(module, names[kernel.key])
        types = {"block": "ptr", "thread": "i64", "threads": "i64", "control": "ptr"}
        code = module.function("run", [(type, name) for name, type in types.items()])

        def once(_: Reg) -> None:
            for kernel, numbers in self.steps:
                self._call(code, names[kernel.key], kernel, numbers)

        code.loop(0, code.load(code.parameters[0], "i64"), 1, (), once)
        code.ret()
        return module.text()

    def _call(self, code: Code, name: str, kernel: Kernel, numbers: Sequence[int]) -> None:
        """A thread's share of the tasks, then the barrier."""
        block, thread, threads, control = code.parameters

        def share(number: Index) -> Reg:
            scaled = code.mul(number, kernel.tasks)
            return code.pure("i64", f"udiv {scaled}, {threads.name}")

        def buffer(number: int) -> Reg:
            return code.load(code.at_index(block, 1 + number, "ptr"), "ptr")

        low, high = share(thread), share(code.add(thread, 1))
        pointers = ", ".join(str(buffer(number)) for number in numbers)
        room = code.at_index(
            buffer(len(self.layouts)), code.mul(thread, self.room // 64 * 64), "i8"
        )
        code.when(
            code.compare("slt", low, high),
            lambda: code.line(f"call void @{name}({pointers}, {room}, {low}, {high})"),
        )
        barrier = code.load(control, "ptr")
        code.line(f"call void {barrier.name}({control}, {thread}, {threads})")


def repeated(call: Callable[[], Any]) -> Timing:
    """Timing of a call of PyTorch."""
    import torch

    def timing(runs: int, threads: int) -> float:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        for _ in range(runs):
            call()
        return (time.perf_counter() - start) / runs

    return timing


def best(peers: Mapping[str, Timing], threads: int, rounds: int) -> dict[str, float]:
    """Each peer's least time, in turns: what others do on the machine only ever slows one down."""
    runs = {name: max(1, int(SHORT / timing(1, threads))) for name, timing in peers.items()}
    found = dict.fromkeys(peers, float("inf"))
    for _ in range(rounds):
        for name, timing in peers.items():
            pool.park()
            timing(1, threads)
            found[name] = min(found[name], timing(runs[name], threads))
    return found
