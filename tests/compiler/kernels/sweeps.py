"""Run one op by its own kernels, on operands of any layout, and as a compiled program."""

import numpy as np

import ganglion as gg
from ganglion.compiler import native
from ganglion.compiler.kernels.sweep import swept
from ganglion.compiler.trace import trace
from ganglion.graph import Node, argument
from ganglion.ops.record import OPS
from ganglion.shapes import Meta
from tests.compiler.kernels.plans import CompiledPlan

THREADS = (1, 2, 3, 7)


def run(name, operands, result, **params):
    """The op's result by its own kernels; operands are (layout, array) or None."""
    metas = [None if x is None else Meta(x[0].shape, x[0].dtype) for x in operands]
    values = [None if m is None else argument(i, m) for i, m in enumerate(metas)]
    node = Node(name, values, params.items(), [Meta(result.shape, result.dtype)])
    plan = swept(node, [None if x is None else x[0] for x in operands], [result])
    given = [x for x in operands if x is not None]
    code = CompiledPlan(plan)
    buffers = [code([*given, (result, None)], threads=t)[len(given)].copy() for t in THREADS]
    for found in buffers[1:]:
        assert found.tobytes() == buffers[0].tobytes(), "the bits depend on the number of threads"
    return buffers[0]


def eager(name, arrays, **params):
    """What the op's NumPy kernel gives."""
    return np.asarray(OPS[name].kernel(*arrays, **params))


def compiled(function, *tensors):
    """The results of a compiled program, the same for any number of threads."""
    step = native.build(trace(function, *tensors))
    before = gg.get_num_threads()
    found = []
    try:
        for threads in THREADS:
            gg.set_num_threads(threads)
            found.append(step([x.numpy() for x in tensors], []))
    finally:
        gg.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            assert x.tobytes() == y.tobytes(), "the bits depend on the number of threads"
    return found[0]


def agree(function, *tensors, exact=True):
    """Compiled as eager."""
    want = function(*tensors)
    want = want if isinstance(want, tuple) else (want,)
    for found, right in zip(compiled(function, *tensors), want, strict=True):
        right = right.numpy()
        assert found.dtype == right.dtype
        if exact:
            np.testing.assert_array_equal(found, right)
        else:
            np.testing.assert_allclose(found, right, rtol=1e-6, atol=1e-6)
