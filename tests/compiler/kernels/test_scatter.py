import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion as gg
import ganglion.dtypes as dt
from ganglion.compiler import native
from ganglion.compiler.kernel import packed
from ganglion.compiler.kernels import pack, scatter
from ganglion.compiler.trace import trace
from ganglion.ops.embedding import EMBEDDING_GRAD
from tests.compiler.kernels.layouts import layouts
from tests.compiler.kernels.sweeps import agree, eager, run

NUMBERS = (dt.float32, dt.float64, dt.int64, dt.int32, dt.uint8, dt.bool_)
SIZES = st.sampled_from([1, 2, 3, 5, 17, 33])


@pytest.fixture(autouse=True, scope="module")
def many_tasks():
    """Small scatters are cut into tasks too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scatter, "TASK", 64)
        patch.setattr(pack, "TASK", 64)
        yield


def filled(layout, seed=0):
    rng = np.random.default_rng(seed)
    if layout.dtype.is_floating_point:
        return rng.standard_normal(layout.shape).astype(layout.dtype.numpy)
    return rng.integers(0, 4, layout.shape).astype(layout.dtype.numpy)


def positions(layout, sizes, wrap=False):
    """Random places; if there are several sizes, row k counts up to ``sizes[k]``."""
    rng = np.random.default_rng(5)
    if len(sizes) == 1:
        found = rng.integers(-sizes[0] if wrap else 0, sizes[0], layout.shape)
    else:
        rows = [rng.integers(-n if wrap else 0, n, layout.shape[1:]) for n in sizes]
        found = np.stack(rows)
    return found.astype(layout.dtype.numpy)


@st.composite
def along(draw):
    """Shapes for scatters along a dimension: of the base, of the index; the dimension; layouts."""
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
    dim = draw(st.integers(0, len(shape) - 1))
    smaller = [draw(st.integers(1, n)) if draw(st.booleans()) else n for n in shape]
    smaller[dim] = draw(SIZES)
    dtype = draw(st.sampled_from(NUMBERS))
    base, result = (draw(layouts(dtype, shape)) for _ in range(2))
    index = draw(layouts(draw(st.sampled_from([dt.int64, dt.int32])), tuple(smaller)))
    return dim, base, index, draw(layouts(dtype, tuple(smaller))), result


@settings(max_examples=60, deadline=None)
@given(along(), st.sampled_from(["scatter_add", "zeros", "scatter", "prod", "amax", "amin"]))
def test_scatters_along_a_dimension_have_the_bits_of_numpy_in_any_layout(case, how):
    dim, base, index, src, result = case
    x = None if how == "zeros" else (base, filled(base, 1))
    operands = [x, (index, positions(index, [base.shape[dim]])), (src, filled(src, 2))]
    name, params = "scatter_reduce", {"dim": dim, "reduce": how}
    if how in ("scatter_add", "zeros"):
        name, params = "scatter_add", {"dim": dim, "shape": base.shape}
    elif how == "scatter":
        name, params = "scatter", {"dim": dim}
    want = eager(name, [None if o is None else o[1] for o in operands], **params)
    np.testing.assert_array_equal(run(name, operands, result, **params), want)


@st.composite
def at_positions(draw):
    """Shapes for indexing with tensors: of the base, of the index, of the value."""
    shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
    count = draw(st.integers(1, len(shape)))
    dims = tuple(sorted(draw(st.permutations(range(len(shape))))[:count]))
    block = tuple(draw(st.lists(SIZES, min_size=0, max_size=2)))
    dtype = draw(st.sampled_from(NUMBERS))
    base, result = (draw(layouts(dtype, shape)) for _ in range(2))
    rows = () if count == 1 else (count,)
    index = draw(layouts(dt.int64, (*rows, *block)))
    kept = [n for d, n in enumerate(shape) if d not in dims]
    before = dims[0] if dims[-1] - dims[0] == count - 1 else 0
    value = draw(layouts(dtype, (*kept[:before], *block, *kept[before:])))
    return base, index, value, result, {"dims": dims, "wrap": draw(st.booleans())}


@settings(max_examples=60, deadline=None)
@given(at_positions(), st.sampled_from(["index_add", "zeros", "index_put", "index_write"]))
def test_indexing_with_tensors_has_the_bits_of_numpy_in_any_layout(case, how):
    base, index, value, result, params = case
    sizes = [base.shape[d] for d in params["dims"]]
    x = None if how == "zeros" else (base, filled(base, 1))
    operands = [x, (index, positions(index, sizes, params["wrap"])), (value, filled(value, 2))]
    name = "index_add" if how == "zeros" else how
    if name == "index_add":
        params = {**params, "shape": base.shape}
    arrays = [None if o is None else o[1].copy() for o in operands]
    want = eager(name, arrays, **params)
    np.testing.assert_array_equal(run(name, operands, result, **params), want)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([1, 3, 16, 33, 100]), st.sampled_from([1, 7, 70]))
def test_gradients_of_embeddings_have_the_bits_of_numpy_in_any_layout(data, width, rows):
    block = tuple(data.draw(st.lists(SIZES, min_size=0, max_size=2)))
    dtype = data.draw(st.sampled_from([dt.float32, dt.float64]))
    g, index = data.draw(layouts(dtype, (*block, width))), data.draw(layouts(dt.int64, block))
    arrays = [filled(g), positions(index, [rows])]
    found = run(
        EMBEDDING_GRAD.name,
        list(zip((g, index), arrays, strict=True)),
        data.draw(layouts(dtype, (rows, width))),
        rows=rows,
    )
    np.testing.assert_array_equal(found, eager(EMBEDDING_GRAD.name, arrays, rows=rows))


# --- places that do not exist ---------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, 20, 2**40, -(2**62)])
@pytest.mark.parametrize("name", [EMBEDDING_GRAD.name, "index_add", "index_put"])
def test_positions_out_of_range_write_nothing_and_are_loud(name, wrong):
    g, at, out = packed(dt.float32, (9, 40)), packed(dt.int64, (9,)), packed(dt.float32, (20, 40))
    index = positions(at, [20])
    index[4] = wrong
    operands, params = [(at, index), (g, filled(g))], {"dims": (0,), "wrap": False}
    if name == EMBEDDING_GRAD.name:
        operands, params = operands[::-1], {"rows": 20}
    else:
        operands.insert(0, (out, filled(out)))
        params |= {"shape": out.shape} if name == "index_add" else {}
    assert np.isnan(run(name, operands, out, **params)).all()  # within guard zones


def test_only_what_a_wrong_position_belongs_to_is_spoiled():
    x, index = packed(dt.float32, (6, 50)), packed(dt.int64, (6, 50))
    at = positions(index, [6])
    at[2, 33] = 6
    operands = [(x, filled(x)), (index, at), (x, filled(x, 1))]
    found = run("scatter_add", operands, x, dim=0, shape=x.shape)
    at[2, 33], right = 0, np.arange(50) // 16 != 2
    want = eager("scatter_add", [operands[0][1], at, operands[2][1]], dim=0, shape=x.shape)
    np.testing.assert_array_equal(found[:, right], want[:, right])
    assert np.isnan(found[:, ~right]).all()


def test_wrong_positions_leave_integers_as_they_are():
    x, at, value = packed(dt.int64, (5, 3)), packed(dt.int64, (4,)), packed(dt.int64, (4, 3))
    index = np.array([0, 5, -6, 4])
    operands = [(x, filled(x)), (at, index), (value, filled(value))]
    found = run("index_add", operands, x, shape=x.shape, dims=(0,), wrap=True)
    want = operands[0][1].copy()
    want[[0, 4]] += operands[2][1][[0, 3]]
    np.testing.assert_array_equal(found, want)


# --- programs -------------------------------------------------------------------------------------


def test_programs_of_one_scatter():
    gg.manual_seed(0)
    x, src = gg.randn(70, 90), gg.randn(50, 90)
    rows, columns = gg.randint(0, 70, (50, 90)), gg.randint(0, 90, (50, 90))
    flags = gg.rand(70, 90) > 0.5
    agree(lambda x, i, s: gg.scatter_add(x, 0, i, s), x, rows, src)
    agree(lambda x, i, s: gg.scatter_add(x, 1, i, s), x, columns, src)
    agree(lambda x, i: gg.scatter(x, 1, i, 5), x, columns)
    agree(lambda x, i, s: gg.scatter(x, 0, i, s), flags, rows, flags[:50])
    for how in ("prod", "mean", "amax", "amin"):
        agree(lambda x, i, s, h=how: gg.scatter_reduce(x, 0, i, s, h), x, rows, src)
    for name in ("index_add", "index_copy"):
        agree(lambda x, i, s, n=name: getattr(gg, n)(x, 0, i, s), x, gg.arange(50), src)


def test_gradients_of_indexing():
    gg.manual_seed(0)

    def slopes(x, i):
        x = x.detach().requires_grad_()
        at = i.abs()[None]
        taken = (x[i], x[:, i, 0], x[i, i], gg.gather(x[..., 0], 1, at), x.unfold(1, 3, 2))
        loss = sum((t**2).sum() for t in taken) + (x.as_strided((4, 5), (2, 3), 1) ** 2).sum()
        return gg.autograd.grad(loss, x)[0]

    agree(slopes, gg.randn(9, 9, 5), gg.tensor([3, -1, 3, 0]), exact=False)


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_two_byte_floats(dtype):
    gg.manual_seed(0)
    x, index = gg.randn(30, 70).to(dtype), gg.randint(0, 30, (200, 70))
    src = gg.randn(200, 70).to(dtype)
    agree(lambda x, i, s: gg.scatter_add(x, 0, i, s), x, index, src)
    agree(lambda x, i, s: gg.scatter(x, 0, i, s), x, index, src)


def test_stores_through_views_of_all_kinds():
    def program(x, v):
        found = []
        for store in (
            lambda y: y.diagonal().copy_(v[:20]),
            lambda y: y[3:17:2, 5].fill_(0),
            lambda y: y.as_strided((4, 5), (31, 7), 3).zero_(),
            lambda y: y.unfold(1, 3, 3)[..., 1].mul_(3),
            lambda y: y.view(10, 2, 30).permute(2, 0, 1)[4].add_(1),
            lambda y: y[2].view(gg.int32).zero_(),
        ):
            y = x * 2
            store(y)
            found.append(y + 1)
        return tuple(found)

    agree(program, gg.randn(20, 30), gg.randn(30))


# --- in place -------------------------------------------------------------------------------------


def kernels(function, *tensors):
    program = trace(function, *tensors)
    return [launch.name for launch in native.build(program).schedule.launches]


def test_what_nobody_else_needs_is_changed_in_place():
    x, index = gg.randn(40, 60), gg.tensor([3, -1])

    def put(x, i):
        y = x * 2
        y[i] = 0
        y[i, i] = 1
        return y

    def kept(x, i):
        y = x * 2
        return gg.index_put(y, (i,), x[0]), y

    def swapped(x, i):
        y = gg.cumsum(x, 0)
        y[i] = y[:2]
        return y

    assert "copy" not in kernels(put, x, index)
    assert kernels(kept, x, index).count("copy") == 1
    assert kernels(swapped, x, index).count("copy") == 1
    for function in (put, kept, swapped):
        agree(function, x, index)


def test_a_state_is_changed_in_place():
    cache, k, at = gg.zeros(64, 4, 80), gg.randn(4, 80), gg.tensor([5])

    def step(k, at):
        cache[at] = k
        return cache.sum()

    program = trace(step, k, at)
    built = native.build(program)
    assert "copy" not in [launch.name for launch in built.schedule.launches]
    state = np.zeros((64, 4, 80), np.float32)
    built([k.numpy(), at.numpy()], [state])
    np.testing.assert_array_equal(state[5], k.numpy())
    assert not state[:5].any()
    assert not state[6:].any()


def test_a_small_store_into_something_large_touches_only_its_part():
    def step(x, v):
        y = x * 2
        y[7] = v
        return y

    assert kernels(step, gg.zeros(200, 100), gg.ones(100)) == ["loop mul", "copy"]
    agree(step, gg.randn(200, 100), gg.ones(100))
