"""Layouts of all kinds, drawn by hypothesis."""

from hypothesis import strategies as st

from ganglion.compiler.kernel import Layout, packed


@st.composite
def layouts(draw, dtype, shape, dense=False):
    """A layout of ``shape``: any order of dimensions in memory, gaps, elements before it.

    ``dense``: the last dimension has stride 1.
    """
    if draw(st.booleans()):
        return packed(dtype, shape)
    order = draw(st.permutations(range(len(shape))))
    if dense:
        order = [*(i for i in order if i != len(shape) - 1), len(shape) - 1]
    strides, step = [0] * len(shape), 1
    for i in reversed(order):
        strides[i] = step
        step *= shape[i] + draw(st.sampled_from((0, 0, 0, 1, 3)))
    offset = draw(st.sampled_from((0, 0, 5)))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    return Layout(dtype, shape, tuple(strides), offset, last + 1)
