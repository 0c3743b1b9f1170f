"""The language itself, and the meaning of every record against its eager kernel."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import ganglion
import ganglion.dtypes as dt
import ganglion.ops
from ganglion.ops import scalar as sc
from ganglion.ops.record import OPS, Op
from ganglion.tensor import Tensor
from tests.ops import checker, samples
from tests.ops.meaning import Compared, Operand, looked_up, operands_of
from tests.ops.native import compiled

FAMILIES = {
    found.name: importlib.import_module(f"{samples.__name__}.{found.name}")
    for found in pkgutil.iter_modules(samples.__path__)
}
SAMPLES = [sample for family in FAMILIES.values() for sample in family.SAMPLES]
POINTWISE = ("elementwise", "cast", "copy")
# the ops that only the compiler makes
UNSEEN = {"number"}

for found in pkgutil.iter_modules(ganglion.ops.__path__):
    importlib.import_module(f"ganglion.ops.{found.name}")


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_expressions_equal_kernels(sample, request):
    """In float64 and one other dtype, forward and backward; in all dtypes with --full."""
    full = request.config.getoption("--full")
    other = sample.dtypes[len(str(sample)) % len(sample.dtypes)]
    chosen = sample.dtypes if full else {other, *({"float64"} & set(sample.dtypes))}
    ganglion.manual_seed(0)
    with Compared(sample.tolerance):
        for dtype in sorted(chosen):
            sample.run(ganglion, checker.ours(sample.arrays(dtype)))
        if "float64" in chosen:
            checker.walk_gradients(sample)


class Native(Compared):
    """Compares elementwise rules, compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: dict[Any, Any] = {}

    def compare(self, op: Op, arrays: list[Any], params: Any, number: int, out: Tensor) -> None:
        if op.scalar is None or not out._data.size:
            return
        arrays, computing = operands_of(op, arrays)
        given = [a for a in arrays if isinstance(a, np.ndarray)]
        kinds = [a.dtype.name if isinstance(a, np.ndarray) else repr(a) for a in arrays]
        key = (op.name, *kinds, repr(params), out.dtype)
        if key not in self.compiled:

            def operand(a: Any, left: Iterator[sc.Scalar]) -> Any:
                if isinstance(a, np.ndarray):
                    return next(left)
                return None if a is None else sc.const(a, computing)

            def rule(*loads: sc.Scalar) -> sc.Scalar:
                left = iter(loads)
                found = op.scalar(*(operand(a, left) for a in arrays), **params)
                return sc.cast(found, out.dtype)

            self.compiled[key] = compiled(rule, [dt.of_numpy(a.dtype) for a in given])
        shape = out._data.shape
        flat = [np.ascontiguousarray(np.broadcast_to(a, shape)).reshape(-1) for a in given]
        self.assert_close(op, self.compiled[key](*flat).reshape(shape), out)


@pytest.mark.parametrize("family", FAMILIES)
def test_native_expressions_equal_kernels(family):
    ganglion.manual_seed(0)
    with Native() as native:
        for sample in FAMILIES[family].SAMPLES:
            native.tolerance = sample.tolerance
            sample.run(ganglion, checker.ours(sample.arrays(sample.dtypes[0])))
            sample.run(ganglion, checker.ours(sample.arrays(sample.dtypes[-1])))


def test_every_elementwise_record_has_a_meaning():
    missing = {
        op.name
        for op in OPS.values()
        if op.kind in POINTWISE and op.scalar is None and op.decompose is None
    }
    assert not missing, f"give a scalar rule to {sorted(missing)}"


def test_every_rule_is_compared():
    ganglion.manual_seed(0)
    with checker.Watch() as watch:
        for sample in SAMPLES:
            sample.run(ganglion, checker.ours(sample.arrays(sample.dtypes[0])))
            if "float64" in sample.dtypes:
                checker.walk_gradients(sample)
    ruled = {op.name for op in OPS.values() if op.scalar is not None or op.element is not None}
    assert ruled - watch.seen <= UNSEEN


# --- the language ---------------------------------------------------------------------------------


def value(e, **known):
    """An expression's value for operands given by name."""
    operands = {x: known[x.args[0]] for x in parts(e) if x.op == "operand"}
    return np.asarray(sc.evaluate(e, operands, looked_up))


def parts(e):
    waiting, seen = [e], set()
    while waiting:
        x = waiting.pop()
        if x not in seen:
            seen.add(x)
            yield x
            waiting += [a for a in x.args if isinstance(a, sc.Scalar)]


def operand(name, dtype):
    return sc.Scalar("operand", (name,), dtype)


X, Y = operand("x", dt.float64), operand("y", dt.float64)
N = operand("n", dt.int32)
NAN = float("nan")


def test_operands_of_different_dtypes_do_not_mix():
    with pytest.raises(TypeError, match="operands of different dtypes"):
        X + N


def test_an_expression_has_no_truth():
    with pytest.raises(TypeError, match="choose with where"):
        bool(X < Y)


def test_extremes_are_nan_if_either_is():
    x, y = np.array([1, NAN, 1, -0.0]), np.array([2, 1, NAN, 3])
    np.testing.assert_array_equal(value(sc.maximum(X, Y), x=x, y=y), [2, NAN, NAN, 3])
    np.testing.assert_array_equal(value(sc.minimum(X, Y), x=x, y=y), [1, NAN, NAN, -0.0])
    np.testing.assert_array_equal(value(sc.maximum(X, 0), x=x), [1, NAN, 1, 0])


def test_fma_rounds_once():
    x = np.array([1 + 2**-30, 1 + 2**-52, np.inf, 1e300])
    found = value(sc.fma(X, X, -(X * X)), x=x)  # the rounding error of the square
    np.testing.assert_array_equal(found[:2], [2.0**-60, 2.0**-104])
    assert np.isnan(found[2])
    single = operand("x", dt.float32)
    x = np.array([1 + 2**-12], np.float32)
    assert value(sc.fma(single, single, -(single * single)), x=x) == 2.0**-24


def test_quotients_of_integers_round_towards_zero():
    n = np.array([7, -7, -(2**31)], np.int32)
    np.testing.assert_array_equal(value(N // 2, n=n), [3, -3, -(2**30)])
    np.testing.assert_array_equal(value(N % 2, n=n), [1, -1, 0])
    np.testing.assert_array_equal(value(N // -3, n=n), [-2, 2, 715827882])


def test_shifts_to_the_right_keep_the_sign_or_do_not():
    n = np.array([-8, 8], np.int32)
    np.testing.assert_array_equal(value(N >> 1, n=n), [-4, 4])
    np.testing.assert_array_equal(value(sc.lshr(N, 1), n=n), [2**31 - 4, 4])


@pytest.mark.parametrize("dtype", [dt.int8, dt.uint8, dt.int32, dt.int64])
def test_casts_to_integers_are_those_of_the_kernel(dtype):
    x = np.array([1.9, -1.9, 300, -300, 2.0**40, 1e30, np.inf, -np.inf, NAN])
    expected = OPS["cast"].kernel(x, dtype=dtype)
    np.testing.assert_array_equal(value(sc.cast(X, dtype), x=x), expected)


def test_numbers_in_halves_are_rounded_first():
    held = sc.const(0.1, dt.float16)
    assert held.dtype is dt.float16
    assert value(sc.cast(held, dt.float32)) == np.float32(np.float16(0.1))
    assert value(sc.const(1e6, dt.float16)) == np.inf


def test_bits_are_read_as_they_are():
    x = np.array([1.0, -0.0])
    np.testing.assert_array_equal(value(sc.bits(X, dt.int64), x=x), [0x3FF << 52, -(2**63)])
    np.testing.assert_array_equal(value(sc.bits(sc.bits(X, dt.int64), dt.float64), x=x), x)


def test_long_chains_are_evaluated():
    e = X
    for _ in range(5000):
        e = e + 1
    assert value(e, x=np.array(1.0)) == 5001


def test_index_arithmetic_wraps_around():
    big = sc.const(2**62, sc.INDEX)
    assert value(big * 4 + 1) == 1
    power = big
    for _ in range(64):
        power = power * power
    assert value(power) == 0


def test_powers_of_indexes_grow_no_faster_than_their_number():
    power = sc.index(5)
    for _ in range(64):
        power = power * power
    assert sc.affine(power) is None


def source(values):
    return Operand(np.asarray(values))


def everywhere(shape):
    index = sc.indexes(shape)
    return index, dict(zip(index, np.ogrid[tuple(slice(n) for n in shape)], strict=True))


def test_reductions_run_over_boxes():
    x = source(np.arange(24.0).reshape(2, 3, 4))
    (i,), known = everywhere((2,))
    total = sc.reduce("sum", (3, 4), lambda j, k: x(i, j, k))
    np.testing.assert_array_equal(sc.evaluate(total, known, looked_up), x.array.sum((1, 2)))
    top = sc.reduce("max", (3,), lambda j: sc.reduce("min", (4,), lambda k: x(i, j, k)))
    np.testing.assert_array_equal(sc.evaluate(top, known, looked_up), x.array.min(2).max(1))
    both = total + sc.reduce("prod", (4,), lambda k: x(i, 0, k) + 1)
    expected = x.array.sum((1, 2)) + (x.array[:, 0] + 1).prod(1)
    np.testing.assert_array_equal(sc.evaluate(both, known, looked_up), expected)


def test_a_reduction_over_one_element_is_the_element():
    x = source([[5.0]])
    assert sc.reduce("sum", (1, 1), x).op == "load"


def test_guarded_loads_may_lie_outside():
    x = source([1.0, 2, 3])
    (i,), known = everywhere((5,))
    padded = sc.guarded((i >= 1) & (i < 4), x(i - 1), 9)
    np.testing.assert_array_equal(sc.evaluate(padded, known, looked_up), [9, 1, 2, 3, 9])


def test_a_number_taken_apart_and_put_together_is_itself():
    i = sc.index(24)
    again = sc.affine(sc.flat(sc.unflat(i, (2, 3, 4)), (2, 3, 4)))
    assert again is not None
    assert (again.constant, again.terms) == (0, {i: 1})


def test_multiples_are_divided_exactly():
    i, j = sc.index(6), sc.index(4)
    assert (i * 4 + j) // 4 is i
    assert (i * 4 + j) % 4 is j
    assert (i % 6) is i
    assert value((i * 4 + 2) % 2) == 0
