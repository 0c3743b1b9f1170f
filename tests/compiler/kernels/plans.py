"""Compile a plan and run it on NumPy arrays: every kernel by itself, with guarded buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion.compiler.kernel import Layout, Plan
from tests.compiler.kernels.harness import GUARD, Compiled, Guarded, aligned, guarded


class CompiledPlan:
    """The machine code of a plan's kernels, and how to run them in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        kernels = [kernel for kernel, _ in plan.steps]
        self.code = {kernel.key: Compiled(kernel) for kernel in kernels}

    def __call__(self, operands: Sequence[tuple[Layout, Any]], threads: int = 1) -> list[Any]:
        """Run on copies; operands are (layout, array or None), temporaries are full of NaN."""
        buffers = self.buffers(operands)
        for kernel, numbers in self.plan.steps:
            given = [buffers[i] for i in numbers]
            scratch = np.full(kernel.scratch + 3 * GUARD, 0xFF, np.uint8)  # NaN
            for t in range(threads):
                low, high = (kernel.tasks * i // threads for i in (t, t + 1))
                if low < high:
                    self.code[kernel.key].call(
                        *(b.address for b in given), aligned(scratch), low, high
                    )
            end = aligned(scratch) - scratch.ctypes.data + kernel.scratch
            assert (scratch[end:] == 0xFF).all(), f"{kernel.name} wrote after its scratch"
        for b in buffers:
            b.check()
        return [b.view for b in buffers]

    def buffers(self, operands: Sequence[tuple[Layout, Any]]) -> list[Guarded]:
        return [guarded(*pair) for pair in (*operands, *((t, None) for t in self.plan.temporaries))]

    def seconds(self, operands: Sequence[tuple[Layout, Any]], repeats: int = 20) -> list[float]:
        """The least time of each kernel on one thread."""
        import time

        buffers, found = self.buffers(operands), []
        for kernel, numbers in self.plan.steps:
            scratch = np.zeros(kernel.scratch + 2 * GUARD, np.uint8)
            args = [*(buffers[i].address for i in numbers), aligned(scratch), 0, kernel.tasks]
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                self.code[kernel.key].call(*args)
                times.append(time.perf_counter() - start)
            found.append(min(times))
        return found
