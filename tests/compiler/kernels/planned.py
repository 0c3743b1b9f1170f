"""Run a plan: its kernels in order on guarded buffers, temporaries full of NaN."""

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion.compiler.kernel import Layout, Plan
from tests.compiler.kernels.harness import GUARD, PATTERN, Compiled, aligned, guarded


class Planned:
    """The machine code of a plan for given operands."""

    def __init__(self, plan: Plan, operands: Sequence[Layout]) -> None:
        self.plan, self.layouts = plan, [*operands, *plan.temporaries]
        made: dict[Any, Compiled] = {}
        for kernel, numbers in plan.steps:
            for number, operand in zip(numbers, kernel.operands, strict=True):  # views, maybe
                assert self.layouts[number].elements == operand.elements, kernel.name
            if kernel.key not in made:
                made[kernel.key] = Compiled(kernel)
        self.steps = [(made[k.key], k, numbers) for k, numbers in plan.steps]

    def __call__(self, *arrays: Any, threads: int = 1) -> list[Any]:
        """Copies of the caller's operands after a run; None fills an operand with NaN or junk."""
        given = [*arrays, *[None] * len(self.plan.temporaries)]
        buffers = [guarded(*pair) for pair in zip(self.layouts, given, strict=True)]
        for code, kernel, numbers in self.steps:
            scratch = np.full(kernel.scratch + 2 * GUARD, 0xFF, np.uint8)  # NaN
            start = aligned(scratch) - scratch.ctypes.data
            scratch[start + kernel.scratch :] = PATTERN
            for t in range(threads):
                low, high = kernel.tasks * t // threads, kernel.tasks * (t + 1) // threads
                if low < high:
                    code.call(*(buffers[n].address for n in numbers), aligned(scratch), low, high)
            assert (scratch[start + kernel.scratch :] == PATTERN).all(), "wrote after its scratch"
        for buffer in buffers:
            buffer.check()
        return [buffer.view.copy() for buffer in buffers[: len(arrays)]]

    def seconds(self, *arrays: Any, repeats: int = 20) -> list[float]:
        """The least time of each kernel on one thread."""
        given = [*arrays, *[None] * len(self.plan.temporaries)]
        buffers = [guarded(*pair) for pair in zip(self.layouts, given, strict=True)]
        calls = []
        for code, kernel, numbers in self.steps:
            scratch = np.zeros(kernel.scratch + 2 * GUARD, np.uint8)
            arguments = [ctypes.c_void_p(buffers[n].address) for n in numbers]
            calls.append((code.call, [*arguments, aligned(scratch), 0, kernel.tasks], scratch))
        least = [float("inf")] * len(calls)
        for _ in range(repeats):
            for i, (call, arguments, _) in enumerate(calls):
                start = time.perf_counter()
                call(*arguments)
                least[i] = min(least[i], time.perf_counter() - start)
        return least
