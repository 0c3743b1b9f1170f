"""Compile a plan and run it on NumPy arrays: every kernel by itself, with guarded buffers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ganglion.compiler.kernel import Layout, Plan
from tests.compiler.kernels.harness import GUARD, Compiled, Guarded, aligned, guarded

Operands = Sequence[tuple[Layout, Any]]


class CompiledPlan:
    """The machine code of a plan's kernels, and how to run them in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        kernels = {kernel.key: kernel for kernel, _ in plan.steps}
        self.code = {key: Compiled(kernel) for key, kernel in kernels.items()}

    def __call__(self, operands: Operands, threads: int = 1) -> list[Any]:
        """The arrays of all operands after a run on copies; None leaves one full of NaN."""
        return [b.view for b in self.buffers(operands, threads)]

    def buffers(self, operands: Operands, threads: int = 1) -> list[Guarded]:
        """The buffers after a run; temporaries and scratch memory are full of NaN before it."""
        pairs = [*operands, *((layout, None) for layout in self.plan.temporaries)]
        buffers = [guarded(*pair) for pair in pairs]
        for kernel, numbers in self.plan.steps:
            scratch = np.full(kernel.scratch + 3 * GUARD, 0xFF, np.uint8)
            addresses = [*(buffers[i].address for i in numbers), aligned(scratch)]
            for t in range(threads):
                low, high = (kernel.tasks * i // threads for i in (t, t + 1))
                if low < high:
                    self.code[kernel.key].call(*addresses, low, high)
            end = aligned(scratch) - scratch.ctypes.data + kernel.scratch
            assert (scratch[end:] == 0xFF).all(), f"{kernel.name} wrote after its scratch"
        for b in buffers:
            b.check()
        return buffers


def same_bits(x: Any, y: Any) -> bool:
    return np.ascontiguousarray(x).tobytes() == np.ascontiguousarray(y).tobytes()
