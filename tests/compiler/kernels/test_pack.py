import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, Plan, packed
from ganglion.compiler.kernels.pack import copy, panels
from tests.compiler.kernels.harness import Compiled, run
from tests.compiler.kernels.plans import CompiledPlan

DTYPES = (dt.float32, dt.float64, dt.float16, dt.bool_, dt.int64)


@st.composite
def laid_out(draw, dtype, shape):
    strides, step = [0] * len(shape), draw(st.sampled_from([1, 1, 1, 2]))
    for dim in draw(st.permutations(range(len(shape)))):
        strides[dim] = step
        step = step * shape[dim] + draw(st.sampled_from([0, 3]))
    offset = draw(st.sampled_from([0, 7]))
    return Layout(dtype, shape, tuple(strides), offset, offset + step)


@st.composite
def copies(draw):
    dtype = draw(st.sampled_from(DTYPES))
    shape = tuple(draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)))
    shape = shape if math.prod(shape) < 20000 else shape[:2]
    return draw(laid_out(dtype, shape)), draw(laid_out(dtype, shape))


def filled(layout):
    numbers = np.random.default_rng(0).integers(0, 100, layout.shape)
    return (numbers % 2 if layout.dtype is dt.bool_ else numbers).astype(layout.dtype.numpy)


@settings(max_examples=60, deadline=None)
@given(copies())
def test_a_copy_between_any_layouts(pair):
    x = filled(pair[0])
    code = Compiled(copy(*pair))
    for threads in (1, 3):
        _, found = code(x, None, threads=threads)
        np.testing.assert_array_equal(found, x)


def test_a_broadcast_is_copied_out():
    source = Layout(dt.float32, (5, 40, 33), (0, 1, 0), 0, 40)
    x = np.broadcast_to(np.arange(40, dtype=np.float32)[:, None], source.shape)
    _, found = run(copy(source, packed(dt.float32, source.shape)), (x, None))
    np.testing.assert_array_equal(found, x)


def test_a_copy_leaves_the_border_alone():
    target = Layout(dt.float32, (2, 4, 4), (36, 6, 1), 7, 72)
    whole = packed(dt.float32, (2, 6, 6))
    kernel = copy(packed(dt.float32, (2, 4, 4)), target)
    plan = Plan((), ((replace(kernel, operands=(kernel.operands[0], whole)), (0, 1)),))
    x, border = np.ones((2, 4, 4), np.float32), np.full(whole.shape, 5, np.float32)
    _, found = CompiledPlan(plan)(((kernel.operands[0], x), (whole, border)))
    expected = border.copy()
    expected[:, 1:5, 1:5] = x
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.sampled_from([(), (3,)]), k=st.integers(1, 40), n=st.integers(1, 100),
    width=st.sampled_from([8, 12, 16, 48]), turned=st.booleans(),
)  # fmt: skip
def test_panels_hold_the_columns_side_by_side(batch, k, n, width, turned):
    shape = (*batch, n, k) if turned else (*batch, k, n)
    source = packed(dt.float32, shape)
    if turned:
        *outer, s, t = source.strides
        source = Layout(source.dtype, (*batch, k, n), (*outer, t, s))
    x = filled(source)
    target, kernels = panels(source, width)
    plan = CompiledPlan(Plan((target,), tuple((kernel, (0, 1)) for kernel in kernels)))
    for threads in (1, 3):
        _, found = plan([(source, x)], threads=threads)
        assert found.shape == (*batch, -(-n // width), k, width)
        columns = np.moveaxis(found, -3, -2).reshape(*batch, k, -1)[..., :n]
        np.testing.assert_array_equal(columns, x)
