"""How far apart the machine's cores are: a virtual machine's may be neighbours or not, and move."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ganglion.compiler import pool
from ganglion.compiler.cache import objects
from ganglion.compiler.llvm import load
from ganglion.compiler.memory import allocate
from ganglion.compiler.target import host
from ganglion.compiler.text import Code, Module, Reg, const
from ganglion.config import usable_cores

FLOATS = 1 << 17  # 512 KB for each thread
BARRIERS, EXCHANGES, PROBES = 1000, 20, 15
NEAR = 130e-6  # seconds; an exchange took 65-85 µs near and 250-284 µs far
ALONE = 2e-6  # a barrier took 0.07 and 0.3 µs; more when threads must wait for a processor


def placement() -> dict[str, Any]:
    """How long two threads need to meet, and to read what the other one has just written."""
    if usable_cores() < 2:
        return {"state": "one processor"}
    library = load(objects([_probes()], host()))
    memory = allocate(2 * FLOATS * 4 + 2 * 64)
    address = int(memory.ctypes.data)

    def seconds(name: str, times: int) -> float:
        function = library.address(name)
        return _median(lambda: pool.run(function, address, threads=2), PROBES) / times

    barrier, exchange = seconds("barriers", BARRIERS), seconds("exchanges", EXCHANGES)
    return {
        "state": "disturbed" if barrier > ALONE else "near" if exchange < NEAR else "far",
        "barrier_ns": round(barrier * 1e9),
        "exchange_us": round(exchange * 1e6, 1),
    }


def _median(call: Callable[[], None], times: int) -> float:
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def _probes() -> str:
    module = Module(host().fma, host().attributes)
    types = {"memory": "ptr", "thread": "i64", "threads": "i64", "control": "ptr"}
    parameters = [(type, name) for name, type in types.items()]
    code = module.function("barriers", parameters)
    code.loop(0, BARRIERS, body=lambda _: _meet(code))
    code.ret()
    other = module.function("exchanges", parameters)
    other.loop(0, EXCHANGES, body=lambda _: _exchange(other))
    other.ret()
    return module.text()


def _meet(code: Code) -> None:
    _, thread, threads, control = code.parameters
    barrier = code.load(control, "ptr")
    code.line(f"call void {barrier.name}({control}, {thread}, {threads})")


def _exchange(code: Code) -> None:
    """Write the own half, then add up the other thread's; the sum is stored, or none is made."""
    memory, thread = code.parameters[:2]
    mine = code.mul(thread, FLOATS)
    theirs = code.mul(code.op("sub", const(1, "i64"), thread), FLOATS)
    one = const(1.5, "<16 x float>")

    def place(start: Any, index: Any) -> Reg:
        return code.at_index(memory, code.add(start, index), "float")

    code.loop(0, FLOATS, 16, body=lambda i: code.store(one, place(mine, i)))
    _meet(code)
    (total,) = code.loop(
        0, FLOATS, 16, (const(0, "<16 x float>"),),
        lambda i, s: [code.fadd(s, code.load(place(theirs, i), "<16 x float>"))],
    )  # fmt: skip
    code.store(total, place(2 * FLOATS, code.mul(thread, 16)))
    _meet(code)
