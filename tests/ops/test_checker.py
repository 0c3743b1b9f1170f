"""The checks of the op table fail on ops that are wrong in each way they look for."""

import numpy as np
import pytest

import ganglion.dtypes as dt
from ganglion.ops.record import OPS, Op
from ganglion.shapes import Meta
from tests.ops import checker
from tests.ops.samples import Refused, Sample, mask, t, values


def same(x):
    return x


@pytest.fixture
def cube():
    """Makes x ** 3 with the given gradient rule or other fields, and takes it away again."""

    def make(rule=lambda s, g: g * 3 * s.x * s.x, **fields):
        given = {"kernel": lambda x: x * x * x, "infer": same, "saves": "x", **fields}
        return Op("cube", "elementwise", vjp=(rule,), **given)

    yield make
    OPS.pop("cube", None)


def call(op):
    return Sample(lambda lib, x: op(x), t(3, 4))


def half_detached(s, g):
    """Right in first order; its own gradient misses one of the two factors."""
    return g * 3 * s.x * s.x.detach()


def ignores_history_of_g(s, g):
    return g.detach() * 3 * s.x * s.x


def test_a_right_rule_passes(cube):
    sample = call(cube())
    checker.check_differences(sample)
    checker.check_second_differences(sample)


@pytest.mark.parametrize(
    "rule",
    [
        lambda s, g: g * 2 * s.x * s.x,
        lambda s, g: g * 3 * s.x,
        lambda s, g: -(g * 3 * s.x * s.x),
        lambda s, g: g * 3 * s.x * s.x + 1e-4,
        lambda s, g: None,
    ],
    ids=["factor", "power", "sign", "offset", "nothing"],
)
def test_a_wrong_first_order_rule_fails(cube, rule):
    with pytest.raises(AssertionError, match="first order"):
        checker.check_differences(call(cube(rule)))


@pytest.mark.parametrize("rule", [half_detached, ignores_history_of_g])
def test_a_wrong_second_order_rule_fails(cube, rule):
    sample = call(cube(rule))
    checker.check_differences(sample)
    with pytest.raises(AssertionError, match="second order"):
        checker.check_second_differences(sample)


def test_one_wrong_element_is_enough(cube):
    corner = np.zeros((3, 4))
    corner[2, 3] = 1e-3

    def rule(s, g):
        return g * (3 * s.x * s.x + checker.wrap(corner))

    with pytest.raises(AssertionError, match="first order"):
        checker.check_differences(call(cube(rule)))


@pytest.mark.parametrize(
    "fields",
    [
        {"infer": lambda x: Meta((12,), x.dtype)},
        {"infer": lambda x: Meta(x.shape, dt.float32)},
        {"kernel": same},
        {"kernel": lambda x: np.broadcast_to(x[:1], x.shape)},
        {"kernel": lambda x: x**3, "view": True},
    ],
    ids=["shape", "dtype", "aliases", "read-only", "view that copies"],
)
def test_a_broken_record_is_noticed(cube, fields):
    with checker.Watch(), pytest.raises(AssertionError):
        call(cube(**fields)).run(None, checker.ours([np.ones((3, 4))]))


def test_params_that_a_graph_cannot_store_are_noticed(cube):
    op = cube(kernel=lambda x, by: x**3, infer=lambda x, by: x)
    with checker.Watch(), pytest.raises(AssertionError, match="cannot store by="):
        op(checker.wrap(np.ones(3)), by=[1])


def test_watching_tells_which_ops_took_part_in_gradients(cube):
    op = cube()
    with checker.Watch() as watch:
        op(checker.wrap(np.ones(3)))
    assert watch.seen == {"cube"}
    assert not watch.differentiated
    with checker.Watch() as watch:
        checker.walk_gradients(call(op))
    assert {"cube", "mul"} <= watch.differentiated


# --- traced ---------------------------------------------------------------------------------------


def test_a_composite_that_is_not_what_its_decomposition_says_is_noticed(cube):
    checker.check_traced(call(cube(decompose=lambda x: x * x * x)), "float64")
    OPS.pop("cube")
    with pytest.raises(AssertionError, match="traced"):
        checker.check_traced(call(cube(decompose=lambda x: x * x)), "float64")


def test_a_call_that_needs_values_cannot_be_traced_and_is_left_out():
    checker.check_traced(Sample(lambda lib, x: x * x.sum().item(), t(3)), "float64")


def test_a_rule_that_looks_at_values_behind_the_door_is_noticed(cube):
    op = cube(lambda s, g: g * float(3 * s.x._data.max()))
    with pytest.raises(AttributeError):
        checker.check_traced(call(op), "float64")


# --- beside PyTorch -------------------------------------------------------------------------------


def differs(mine, other):
    return Sample(lambda lib, x: mine(x) if isinstance(x, checker.Tensor) else other(x), t(3, 4))


@pytest.mark.parametrize(
    "sample",
    [
        differs(lambda x: x * (1 + 1e-9), lambda x: x * 1),
        differs(lambda x: x * 1, lambda x: x.float()),
        differs(lambda x: x * 1, lambda x: x.flatten()),
        differs(lambda x: (x * 1, x * 2), lambda x: x * 1),
        differs(lambda x: x, lambda x: x * 1),
        differs(lambda x: x * 1, lambda x: x.mul_(1)),
        differs(lambda x: x.mul_(2), lambda x: x.mul_(3)),
    ],
    ids=["value", "dtype", "shape", "count", "identity", "copy", "written"],
)
def test_a_difference_from_pytorch_is_noticed(sample):
    torch = pytest.importorskip("torch")
    for gaps in (False, True):
        with pytest.raises(AssertionError):
            checker.check_forward(sample, torch, "float64", gaps)


@pytest.mark.parametrize(
    "sample",
    [
        differs(lambda x: x * x.detach(), lambda x: x * x),
        differs(lambda x: x.detach() * 1, lambda x: x * 1),
        differs(lambda x: x * 1, lambda x: x.detach() * 1),
    ],
)
def test_another_gradient_than_pytorch_is_noticed(sample):
    torch = pytest.importorskip("torch")
    with pytest.raises(AssertionError):
        checker.check_gradients(sample, torch, "float64")


# --- the samples themselves -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d.name for d in dt.ALL])
def test_inputs_are_of_the_walked_dtype_and_the_same_in_every_run(dtype):
    sample = Sample("f", t(3, 4), [mask(2)], other=values([1, 0, 1]))
    first, again = sample.arrays(dtype), sample.arrays(dtype)
    names = [dt.of_numpy(a.dtype).name for a in first]
    assert names == [dtype, "bool", dtype]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_calls_draw_other_values():
    a, b = Sample("f", t(3, 4)), Sample("g", t(3, 4))
    assert not np.array_equal(a.arrays("float64")[0], b.arrays("float64")[0])


def test_distinct_values_have_no_ties():
    (a,) = Sample("f", t(5, 7, distinct=True)).arrays("int64")
    assert len(np.unique(a)) == a.size


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 3, 4)])
def test_gapped_arrays_hold_the_same_values(shape):
    a = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    gapped = checker.gapped(a)
    assert np.array_equal(a, gapped)
    assert gapped.flags.c_contiguous == (a.size < 2)


def test_a_call_puts_tensors_where_their_descriptions_stood():
    call = Refused(lambda lib, *a, **k: (a, k), [t(2), 3], t(1), key=t(4))
    seen = call.run(None, ["a", "b", "c"])
    assert seen == ((["a", 3], "b"), {"key": "c"})
