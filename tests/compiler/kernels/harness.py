"""Compile one kernel and run it on NumPy arrays, with guard zones around every buffer."""

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from ganglion.compiler.kernel import Kernel, Layout
from ganglion.compiler.text import Module

GUARD = 64  # bytes of a known pattern before and after each buffer
PATTERN = 0xA5

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


class Compiled:
    """A kernel's machine code."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        module = Module(attributes='nounwind "prefer-vector-width"="512"')
        kernel.write(module, "kernel")
        self.text = module.text()
        parsed = llvm.parse_assembly(self.text)
        parsed.verify()
        machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2,
            jit=True, codemodel="jitdefault",
        )  # fmt: skip
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(machine, options)
        passes = llvm.create_new_module_pass_manager()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_dead_code_elimination_pass()
        passes.run(parsed, builder)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()
        kinds = [ctypes.c_void_p] * (len(kernel.operands) + 1) + [ctypes.c_int64] * 2
        self.call = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address("kernel"))

    def __call__(self, *arrays: Any, threads: int = 1) -> list[Any]:
        """Run on copies of the buffers; give back every buffer (flat) after the run.

        ``arrays[i]`` fills operand i through its layout; None leaves it filled with NaN or junk.
        ``threads`` cuts the tasks as that many threads would, one after the other.
        """
        buffers = [guarded(*pair) for pair in zip(self.kernel.operands, arrays, strict=True)]
        scratch = np.full(self.kernel.scratch + 2 * GUARD, PATTERN, np.uint8)
        tasks = self.kernel.tasks
        for t in range(threads):
            low, high = tasks * t // threads, tasks * (t + 1) // threads
            if low < high:
                self.call(*(b.address for b in buffers), aligned(scratch), low, high)
        for b in buffers:
            b.check()
        return [b.view for b in buffers]

    def seconds(self, *arrays: Any, repeats: int = 20) -> float:
        """The least time of a run on one thread."""
        buffers = [guarded(*pair) for pair in zip(self.kernel.operands, arrays, strict=True)]
        scratch = np.zeros(self.kernel.scratch + 2 * GUARD, np.uint8)
        args = [*(b.address for b in buffers), aligned(scratch), 0, self.kernel.tasks]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.call(*args)
            times.append(time.perf_counter() - start)
        return min(times)


def aligned(raw: Any) -> int:
    return raw.ctypes.data + (-raw.ctypes.data) % 64


class Guarded:
    """A buffer between two guard zones."""

    def __init__(self, layout: Layout) -> None:
        size = layout.elements * layout.dtype.numpy.itemsize
        self.raw = np.full(size + 2 * GUARD + 64, PATTERN, np.uint8)
        start = GUARD + (-(self.raw.ctypes.data + GUARD)) % 64
        self.start, self.stop = start, start + size
        self.address = self.raw.ctypes.data + start
        self.flat = self.raw[start : start + size].view(layout.dtype.numpy)
        steps = [s * layout.dtype.numpy.itemsize for s in layout.strides]
        self.view = np.lib.stride_tricks.as_strided(
            self.flat[layout.offset :], layout.shape, steps, writeable=True
        )

    def check(self) -> None:
        before, after = self.raw[: self.start], self.raw[self.stop :]
        assert (before == PATTERN).all(), "a kernel wrote before its buffer"
        assert (after == PATTERN).all(), "a kernel wrote after its buffer"


def guarded(layout: Layout, array: Any) -> Guarded:
    buffer = Guarded(layout)
    if array is not None:
        buffer.flat[...] = 0  # borders hold zeros
        buffer.view[...] = array
    elif layout.dtype.is_floating_point:
        buffer.flat[...] = np.nan
    return buffer


def run(kernel: Kernel, arrays: Sequence[Any], threads: int = 1) -> list[Any]:
    """Compile and run once."""
    return Compiled(kernel)(*arrays, threads=threads)
