"""Runs a user's function under a tracer, and sees to it that the trace can be relied on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ganglion.compiler.arguments import Leaf, Leaves, NumberLeaf, Structure, rebuilt
from ganglion.compiler.guards import Place
from ganglion.compiler.program import Program
from ganglion.compiler.specialisation import overlapping
from ganglion.compiler.trace import Tracer, record
from ganglion.errors import TraceError
from ganglion.tensor import Tensor


def capture(
    function: Callable[..., Any],
    leaves: Leaves,
    structure: Structure,
    kinds: Sequence[Leaf],
    lifted: Sequence[Place],
    keep_grads: bool,
) -> tuple[Tracer, Program]:
    """Trace a call with these arguments; the floats at the lifted places may change later."""
    tracer = Tracer(function)
    values = [(place, value) for place in lifted if type(value := place.now()) is float]

    def call() -> Any:
        pairs = enumerate(zip(leaves, kinds, strict=True))
        symbolic = [_symbolic(tracer, i, x, kind) for i, (x, kind) in pairs]
        args, kwargs = rebuilt(structure, symbolic)
        for place, value in values:
            place.put(tracer.numbers.lift(place, value))
        with _without_foreign_randomness(), tracer.reads.watching():
            result = function(*args, **kwargs)
        put_back()
        return result

    def put_back() -> None:
        for place, value in values:
            place.put(value)

    try:
        program = record(tracer, call, keep_grads)
    except BaseException:
        tracer.reads.restore()
        put_back()
        raise
    return tracer, program


def _symbolic(tracer: Tracer, index: int, x: Any, kind: Leaf) -> Any:
    if isinstance(x, Tensor):
        return tracer.take(x)
    return tracer.numbers.argument(index, x) if isinstance(kind, NumberLeaf) else x


@contextmanager
def _without_foreign_randomness() -> Iterator[None]:
    """Refuse draws from Python's and NumPy's generators, which would be the same in every call."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    drawn = random.getstate() != python, _changed(numpy)
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    if any(drawn):
        raise TraceError(
            f"a compiled function draws from {'Python' if drawn[0] else 'NumPy'}'s global random "
            "generator, which would give the same numbers at every call; draw with ganglion.rand "
            "and the like, or draw outside and pass a tensor"
        )


def _changed(before: Any) -> bool:
    now: Any = np.random.get_state()  # noqa: NPY002
    return any(not np.array_equal(a, b) for a, b in zip(before, now, strict=True))


def entangled(program: Program, given: Sequence[Tensor]) -> bool:
    """Whether the program writes to memory that it also knows in another way.

    It takes each argument and captured tensor for memory of its own.
    """
    states = [x._data for x in program.states()]
    written = {index for index, _ in program.stores}
    written |= {len(given) + slot for slot in program.written}
    readonly = not all(states[slot].flags.writeable for slot in program.written)
    return readonly or overlapping([*[x._data for x in given], *states], written)
