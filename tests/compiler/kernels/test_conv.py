from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, packed, store_lanes, stored
from ganglion.compiler.kernels.axes import (
    Window,
    backward_axes,
    channels_first,
    channels_last,
    halo_of,
    has_halo,
)
from ganglion.compiler.kernels.conv import (
    conv_forward,
    conv_input,
    conv_weight,
    preferred_layout,
)
from ganglion.compiler.kernels.tile import AVX2, load_lanes
from ganglion.compiler.text import const
from ganglion.ops.conv import CONV, CONV_INPUT, CONV_WEIGHT
from tests.compiler.kernels.plans import CompiledPlan, same_bits

THREADS = (1, 2, 3, 7)
WINOGRAD_ERROR = 3e-5  # of the result's deviation; direct sums are at 5e-6

PLAIN = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}


def random(shape, dtype=dt.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype.numpy)


def close(found, expected, terms, factor=4):
    error = factor * np.sqrt(terms + 1) * np.finfo(found.dtype).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * max(1, abs(expected).max()))


def exactly(op, *arrays, **params):
    return op.kernel(*(None if a is None else a.astype(np.float64) for a in arrays), **params)


# --- any sizes, any strides -----------------------------------------------------------------------


@st.composite
def problems(draw):
    """Sizes of x and w, the parameters, and how images lie in memory."""
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 1, 2, 4, 16]))
    most = {1: 40, 2: 20, 4: 10, 16: 3}[groups]
    ins, outs = (groups * draw(st.integers(1, most)) for _ in range(2))
    kernel, stride, dilation, padding, size = [], [], [], [], []
    for _ in range(rank):
        k, d = draw(st.integers(1, 4)), draw(st.sampled_from([1, 1, 2, 3]))
        low, high = draw(st.integers(0, 3)), draw(st.integers(0, 3))
        least = max(1, d * (k - 1) + 1 - low - high)
        kernel.append(k)
        stride.append(draw(st.sampled_from([1, 1, 2, 3, 5])))
        dilation.append(d)
        padding.append((low, high))
        size.append(least + draw(st.integers(0, 9 if rank < 3 else 4)))
    params = {
        "stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation),
        "groups": groups,
    }  # fmt: skip
    shapes = (draw(st.integers(1, 4)), ins, *size), (outs, ins // groups, *kernel)
    kinds = ["first", "last", "preferred", "more", "first around"]
    return *shapes, params, draw(st.sampled_from(kinds)), draw(st.sampled_from([0, 1]))


def image(kind, wanted):
    """A layout of the wanted one's shape: in PyTorch's order, channels last, with zeros around."""
    more = tuple([(low + 1, high + 2) for low, high in halo_of(wanted)])
    return {
        "first": packed(wanted.dtype, wanted.shape),
        "last": channels_last(wanted.dtype, wanted.shape),
        "preferred": wanted,
        "more": channels_last(wanted.dtype, wanted.shape, more),
        "first around": channels_first(wanted.dtype, wanted.shape, halo_of(wanted)),
    }[kind]


def check_same_for_all_threads(plan, operands, result):
    found = plan(operands)[result]
    for threads in THREADS[1:]:
        assert same_bits(plan(operands, threads)[result], found)
    return found


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_any_convolution(problem):
    x_shape, w_shape, params, kind, double = problem
    dtype = (dt.float32, dt.float64)[double]
    x, w = random(x_shape, dtype), random(w_shape, dtype, 1)
    expected = exactly(CONV, x, w, None, **params)
    given_ = packed(dtype, x_shape), packed(dtype, w_shape)
    source = image(kind, preferred_layout("conv", *given_, **params)[0])
    target = image(kind, channels_last(dtype, expected.shape))
    plan = CompiledPlan(conv_forward(source, given_[1], stored(target), **params, direct=True))
    operands = [(source, x), (given_[1], w), (target, None)]
    found = check_same_for_all_threads(plan, operands, 2)
    close(found, expected, np.prod(w_shape[1:]))


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_any_gradient_for_the_input(problem):
    x_shape, w_shape, params, kind, double = problem
    dtype, size = (dt.float32, dt.float64)[double], x_shape[2:]
    w = random(w_shape, dtype, 1)
    shape = exactly(CONV, random(x_shape), w, None, **params).shape
    g = random(shape, dtype)
    expected = exactly(CONV_INPUT, g, w, size=size, **params)
    given_ = packed(dtype, shape), packed(dtype, w_shape)
    source = image(kind, preferred_layout("conv_input", *given_, size, **params)[0])
    target = image(kind, channels_last(dtype, x_shape))
    plan = CompiledPlan(conv_input(source, given_[1], stored(target), size, **params, direct=True))
    operands = [(source, g), (given_[1], w), (target, None)]
    found = check_same_for_all_threads(plan, operands, 2)
    close(found, expected, w_shape[0] * np.prod(w_shape[2:]))


@settings(max_examples=25, deadline=None)
@given(problem=problems())
def test_any_gradient_for_the_weight(problem):
    x_shape, w_shape, params, kind, double = problem
    dtype, size = (dt.float32, dt.float64)[double], w_shape[2:]
    x = random(x_shape, dtype)
    shape = exactly(CONV, x, random(w_shape), None, **params).shape
    g = random(shape, dtype, 1)
    expected = exactly(CONV_WEIGHT, x, g, size=size, **params).reshape(w_shape[0], -1)
    given_ = packed(dtype, x_shape), packed(dtype, shape)
    wanted = preferred_layout("conv_weight", *given_, size, **params)
    source, gradient = (image(kind, layout) for layout in wanted)
    target = packed(dtype, expected.shape)
    plan = CompiledPlan(conv_weight(source, gradient, stored(target), size, **params, direct=True))
    operands = [(source, x), (gradient, g), (target, None)]
    found = check_same_for_all_threads(plan, operands, 2)
    close(found, expected, g.size // g.shape[1])


@pytest.mark.parametrize("shape", [(48, 12, 16, 16), (2, 16, 64, 65), (2, 3, 100, 90)])
@pytest.mark.parametrize("groups", [1, 3])
def test_a_chunk_is_summed_block_by_block(shape, groups):
    n, ins, *size = shape
    x, g = random((n, groups * ins, *size)), random((n, groups * 4, *size), seed=1)
    params = {**PLAIN, "groups": groups}
    layouts = [packed(dt.float32, a.shape) for a in (x, g)]
    target = packed(dt.float32, (groups * 4, ins * 9))
    plan = CompiledPlan(conv_weight(*layouts, stored(target), (3, 3), **params, direct=True))
    operands = [*zip(layouts, (x, g), strict=True), (target, None)]
    expected = exactly(CONV_WEIGHT, x, g, size=(3, 3), **params).reshape(target.shape)
    close(check_same_for_all_threads(plan, operands, 2), expected, n * size[0] * size[1])


# --- Winograd's algorithm -------------------------------------------------------------------------


@st.composite
def winograd_problems(draw):
    """Shapes of x and w and the padding, for which tiles of 4x4 save products."""
    ins, outs = (draw(st.sampled_from([16, 17, 20, 32, 48, 70])) for _ in range(2))
    p = draw(st.integers(0, 2))
    size = tuple(draw(st.sampled_from([4, 7, 8, 9, 14, 15])) + 2 - 2 * p for _ in range(2))
    kind = draw(st.sampled_from(["first", "last", "preferred", "more"]))
    return draw(st.integers(1, 5)), ins, outs, size, p, kind


def names(plan):
    return [kernel.name for kernel, _ in plan.steps]


def check_winograd(plan, operands, expected):
    assert any("winograd" in name for name in names(plan))
    found = check_same_for_all_threads(CompiledPlan(plan), operands, 2)
    assert abs(found - expected).max() < WINOGRAD_ERROR * expected.std()


@settings(max_examples=12, deadline=None)
@given(problem=winograd_problems())
def test_winograd_convolution(problem):
    n, ins, outs, size, p, kind = problem
    params = {**PLAIN, "padding": ((p, p),) * 2}
    x, w = random((n, ins, *size)), random((outs, ins, 3, 3), seed=1)
    given_ = packed(dt.float32, x.shape), packed(dt.float32, w.shape)
    expected = exactly(CONV, x, w, None, **params)
    source = image(kind, preferred_layout("conv", *given_, **params)[0])
    target = channels_last(dt.float32, expected.shape)
    plan = conv_forward(source, given_[1], stored(target), **params)
    check_winograd(plan, [(source, x), (given_[1], w), (target, None)], expected)


@settings(max_examples=12, deadline=None)
@given(problem=winograd_problems())
def test_winograd_gradient_for_the_input(problem):
    n, ins, outs, size, p, kind = problem
    grown = tuple(s + 2 * p - 2 for s in size)
    if min(*size, *grown) < 4:
        return
    params = {**PLAIN, "padding": ((p, p),) * 2}
    g, w = random((n, outs, *grown)), random((outs, ins, 3, 3), seed=1)
    given_ = packed(dt.float32, g.shape), packed(dt.float32, w.shape)
    expected = exactly(CONV_INPUT, g, w, size=size, **params)
    source = image(kind, preferred_layout("conv_input", *given_, size, **params)[0])
    target = channels_last(dt.float32, expected.shape)
    plan = conv_input(source, given_[1], stored(target), size, **params)
    if any("winograd" in name for name in names(plan)):  # sizes such as 5x5 are not worth it
        check_winograd(plan, [(source, g), (given_[1], w), (target, None)], expected)


@settings(max_examples=12, deadline=None)
@given(problem=winograd_problems())
def test_winograd_gradient_for_the_weight(problem):
    n, ins, outs, size, p, kind = problem
    params = {**PLAIN, "padding": ((p, p),) * 2}
    x = random((n, ins, *size))
    g = random((n, outs, *(s + 2 * p - 2 for s in size)), seed=1)
    given_ = packed(dt.float32, x.shape), packed(dt.float32, g.shape)
    expected = exactly(CONV_WEIGHT, x, g, size=(3, 3), **params).reshape(outs, -1)
    wanted = preferred_layout("conv_weight", *given_, (3, 3), **params)
    source, gradient = (image(kind, layout) for layout in wanted)
    target = packed(dt.float32, expected.shape)
    plan = conv_weight(source, gradient, stored(target), (3, 3), **params)
    check_winograd(plan, [(source, x), (gradient, g), (target, None)], expected)


def test_winograd_adds_chunks_and_groups_of_channels():
    x, g = random((32, 70, 12, 12)), random((32, 80, 12, 12), seed=1)
    layouts = [channels_last(dt.float32, a.shape, ((1, 1), (1, 1))) for a in (x, g)]
    target = packed(dt.float32, (80, 70 * 9))
    plan = conv_weight(*layouts, stored(target), (3, 3), **PLAIN)
    assert plan.temporaries[0].shape[0] > 1, "one chunk: nothing is added"
    expected = exactly(CONV_WEIGHT, x, g, size=(3, 3), **PLAIN).reshape(80, -1)
    check_winograd(plan, [*zip(layouts, (x, g), strict=True), (target, None)], expected)


def test_wide_images_are_cut_into_rows_of_tiles():
    x, w, g = random((2, 16, 6, 103)), random((16, 16, 3, 3), seed=1), random((2, 16, 6, 103))
    layouts = [packed(dt.float32, a.shape) for a in (x, w, g)]
    plan = conv_forward(*layouts[:2], stored(layouts[2]), **PLAIN)
    operands = [*zip(layouts[:2], (x, w), strict=True), (layouts[2], None)]
    check_winograd(plan, operands, exactly(CONV, x, w, None, **PLAIN))
    target = packed(dt.float32, (16, 144))
    plan = conv_weight(layouts[0], layouts[2], stored(target), (3, 3), **PLAIN)
    operands = [(layouts[0], x), (layouts[2], g), (target, None)]
    expected = exactly(CONV_WEIGHT, x, g, size=(3, 3), **PLAIN).reshape(16, -1)
    check_winograd(plan, operands, expected)


@pytest.mark.parametrize(("low", "high"), [(5, 0), (0, 6), (9, 9)])
def test_whole_tiles_of_zeros_around_an_image(low, high):
    x, w = random((2, 16, 6, 5)), random((16, 16, 3, 3), seed=1)
    params = {**PLAIN, "padding": ((low, high), (high, low))}
    expected = exactly(CONV, x, w, None, **params)
    layouts = [packed(dt.float32, a.shape) for a in (x, w, expected)]
    plan = conv_forward(*layouts[:2], stored(layouts[2]), **params)
    check_winograd(plan, [*zip(layouts[:2], (x, w), strict=True), (layouts[2], None)], expected)


def test_direct_sums_are_more_exact_on_demand():
    x, w = packed(dt.float32, (2, 32, 8, 8)), packed(dt.float32, (32, 32, 3, 3))
    fast = conv_forward(x, w, stored(x), **PLAIN)
    exact = conv_forward(x, w, stored(x), **PLAIN, direct=True)
    assert "conv_winograd" in names(fast)
    assert "conv_direct" in names(exact)


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [8, 32])
def test_preferred_layouts_are_not_copied(channels):
    x, w = packed(dt.float32, (2, channels, 14, 14)), packed(dt.float32, (32, channels, 3, 3))
    y, window = packed(dt.float32, (2, 32, 14, 14)), {**PLAIN, "size": (14, 14)}
    source, _ = preferred_layout("conv", x, w, **PLAIN)
    gradient, _ = preferred_layout("conv_input", y, w, **window)
    both = preferred_layout("conv_weight", x, y, **{**PLAIN, "size": (3, 3)})
    plans = [
        conv_forward(source, w, stored(y), **PLAIN),
        conv_input(gradient, w, stored(x), **window),
        conv_weight(*both, stored(packed(dt.float32, (32, channels * 9))), (3, 3), **PLAIN),
    ]
    assert not any("halo" in names(plan) for plan in plans)
    assert "halo" in names(conv_forward(x, w, stored(y), **PLAIN))


def test_zeros_are_kept_around_images_for_direct_convolutions_alone():
    x, w = packed(dt.float32, (2, 32, 14, 14)), packed(dt.float32, (32, 32, 3, 3))
    assert not preferred_layout("conv", x, w, **PLAIN)[0].halo
    layout, _ = preferred_layout("conv", x, w, **PLAIN, direct=True)
    assert layout.halo == ((1, 1), (1, 1))


@given(
    shape=st.lists(st.integers(1, 5), min_size=3, max_size=5),
    halo=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3),
    make=st.sampled_from([channels_last, channels_first]),
)
def test_zeros_around_are_found_in_the_strides(shape, halo, make):
    halo = tuple(halo[: len(shape) - 2])
    layout = make(dt.float32, tuple(shape), halo)
    assert halo_of(layout) == halo
    assert has_halo(layout, tuple([(low, 0) for low, _ in halo]))
    assert not has_halo(layout, ((halo[0][0] + 1, 0), *halo[1:]))


def test_a_slice_of_the_channels_is_read_in_place():
    wide = channels_last(dt.float32, (2, 48, 6, 6), ((1, 1), (1, 1)))
    part = replace(wide, shape=(2, 16, 6, 6), offset=wide.offset + 16)
    assert halo_of(part) == ((1, 1), (1, 1))
    w, y = packed(dt.float32, (8, 16, 3, 3)), channels_last(dt.float32, (2, 8, 6, 6))
    plan = conv_forward(part, w, stored(y), **PLAIN, direct=True)
    assert "halo" not in names(plan)
    x, weight = random(part.shape), random(w.shape, seed=1)
    found = CompiledPlan(plan)([(part, x), (w, weight), (y, None)])[2]
    close(found, exactly(CONV, x, weight, None, **PLAIN), 144)


@pytest.mark.parametrize("direct", [False, True])
def test_results_leave_the_zeros_around_alone(direct):
    x, w = random((2, 16, 7, 7)), random((20, 16, 3, 3), seed=1)
    layouts = packed(dt.float32, x.shape), packed(dt.float32, w.shape)
    target = channels_last(dt.float32, (2, 20, 7, 7), ((1, 2), (2, 1)))
    plan = CompiledPlan(conv_forward(*layouts, stored(target), **PLAIN, direct=direct))
    buffer = plan.buffers([(layouts[0], x), (layouts[1], w), (target, None)])[2]
    assert np.isfinite(buffer.view).all()
    assert np.isnan(buffer.flat).sum() == target.size - target.numel


# --- epilogues, edges -----------------------------------------------------------------------------


def descent(weight, rate):
    """The epilogue ``weight -= rate * gradient``."""

    def emit(code, pointers, tile):
        start = code.at_index(pointers[0], code.dot(tile.base, weight.strides), "float")
        for offset, row in zip(tile.offsets, tile.registers, strict=True):
            at = sum(o * s for o, s in zip(offset, weight.strides, strict=True))
            for v, value in enumerate(row):
                place = code.at_index(start, at + v * value.lanes, "float")
                old = load_lanes(code, place, value.type, tile.columns - v * value.lanes)
                new = code.fma(value, const(-rate, value.type), old)
                store_lanes(code, new, place, 1, tile.columns - v * value.lanes)

    return Epilogue(("descent", weight, rate), (weight,), (0,), (0,), emit)


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize(("ins", "outs"), [(16, 32), (19, 21), (1, 10)])
def test_an_update_of_the_weights_is_an_epilogue(ins, outs, direct):
    x, g, w = random((4, ins, 8, 8)), random((4, outs, 8, 8), seed=1), random((outs, ins * 9))
    layouts = [packed(dt.float32, a.shape) for a in (x, g, w)]
    plan = conv_weight(*layouts[:2], descent(layouts[2], 0.5), (3, 3), **PLAIN, direct=direct)
    found = CompiledPlan(plan)(list(zip(layouts, (x, g, w), strict=True)))[2]
    gradient = exactly(CONV_WEIGHT, x, g, size=(3, 3), **PLAIN).reshape(outs, -1)
    np.testing.assert_allclose(found, w - 0.5 * gradient, rtol=0, atol=1e-4 * gradient.std())


def test_an_empty_batch_has_no_gradient_for_weights():
    x, g = packed(dt.float32, (0, 16, 8, 8)), packed(dt.float32, (0, 16, 8, 8))
    target = packed(dt.float32, (16, 144))
    plan = conv_weight(x, g, stored(target), (3, 3), **PLAIN)
    found = CompiledPlan(plan)([(x, np.zeros(x.shape)), (g, np.zeros(g.shape)), (target, None)])
    assert (found[2] == 0).all()
    w = packed(dt.float32, (16, 16, 3, 3))
    assert not conv_forward(x, w, stored(g), **PLAIN).steps


def test_one_image_is_shared_by_several_tasks():
    for size in ((1, 32, 28, 28), (1, 32, 4, 256)):
        x, w = packed(dt.float32, size), packed(dt.float32, (64, 32, 3, 3))
        y = packed(dt.float32, (1, 64, *size[2:]))
        for direct in (False, True):
            *_, (kernel, _) = conv_forward(x, w, stored(y), **PLAIN, direct=direct).steps
            assert kernel.tasks >= 4


def test_narrow_registers_give_the_same_bits():
    x, w = random((2, 20, 9, 9)), random((24, 20, 3, 3), seed=1)
    layouts = packed(dt.float32, x.shape), packed(dt.float32, w.shape)
    target = channels_last(dt.float32, (2, 24, 9, 9))
    operands = [(layouts[0], x), (layouts[1], w), (target, None)]
    for direct in (False, True):
        wide, narrow = (
            CompiledPlan(conv_forward(*layouts, stored(target), **PLAIN, direct=direct, **more))
            for more in ({}, {"target": AVX2})
        )
        assert same_bits(wide(operands)[2], narrow(operands)[2])


def test_long_strides_do_not_multiply_the_code():
    patches = Window((16, 16), (16, 16), ((0, 0), (0, 0)), (1, 1))
    (axes,) = backward_axes((224, 224), patches)
    assert [(a.count, a.taps, a.phases) for a in axes] == [(14, 1, 16)] * 2
    overlapping = Window((3,), (2,), ((1, 1),), (1,))
    assert [a.taps for (a,) in backward_axes((8,), overlapping)] == [1, 2]
