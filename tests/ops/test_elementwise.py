"""What the op table cannot say in one line: operators beside other types, ``out=``, choosing."""

import math
import operator

import numpy as np
import pytest

import ganglion
from ganglion.ops.elementwise import choose
from ganglion.tensor import Tensor

SIZES = [0, 1, 7, 513, 4096]


def tensor(*values, dtype="float32"):
    return ganglion.tensor(values, dtype=getattr(ganglion, dtype))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float32", "float64", "int64"])
@pytest.mark.parametrize("size", SIZES)
def test_choosing_by_bits_is_where(dtype, size):
    rng = np.random.default_rng(0)
    condition = rng.random(size) < 0.5
    x, y = (rng.integers(0, 2, size).astype(dtype) for _ in range(2))
    assert np.array_equal(choose(condition, x, y), np.where(condition, x, y))


def test_choosing_keeps_infinities_and_nans_apart():
    condition = np.arange(1000) % 2 == 0
    x, y = np.full(1000, np.nan, np.float32), np.float32(np.inf)
    chosen = choose(condition, x, y)
    assert np.isnan(chosen[::2]).all()
    assert np.isinf(chosen[1::2]).all()


def test_choosing_broadcasts_all_three():
    condition = np.arange(600)[:, None] > 300
    x, y = np.arange(5.0), np.zeros((600, 1))
    assert np.array_equal(choose(condition, x, y), np.where(condition, x, y))


@pytest.mark.parametrize("other", [None, "text", object(), [1.0]])
def test_equality_with_strangers_is_left_to_python(other):
    x = tensor(1.0)
    assert (x == other) is False
    assert (x != other) is True


def test_tensors_hash_by_identity():
    x, y = tensor(1.0), tensor(1.0)
    assert len({x, y, x}) == 2


@pytest.mark.parametrize("function", [operator.add, operator.mul, operator.truediv, operator.gt])
def test_numpy_arrays_and_scalars_are_operands_on_both_sides(function):
    x, array = tensor(1.0, 2.0), np.array([3, 4], np.float32)
    for left, right in ((x, array), (array, x), (x, np.float32(2)), (np.float32(2), x)):
        found = function(left, right)
        assert isinstance(found, Tensor)
        expected = function(*(v._data if isinstance(v, Tensor) else v for v in (left, right)))
        assert np.array_equal(found._data, expected)


@pytest.mark.parametrize("function", [operator.add, operator.lt, operator.pow, operator.and_])
@pytest.mark.parametrize("other", [None, "a", [1]])
def test_operators_refuse_strangers(function, other):
    with pytest.raises(TypeError, match="expected a tensor or a number"):
        function(tensor(1, dtype="int64"), other)


def test_an_empty_out_takes_the_shape_of_the_result():
    out = ganglion.zeros(0)
    assert ganglion.exp(tensor(0.0, 0.0), out=out) is out
    assert out.tolist() == [1.0, 1.0]


def test_an_out_of_another_shape_is_refused():
    with pytest.raises(RuntimeError, match=r"out has shape \(3,\)"):
        ganglion.exp(tensor(0.0, 0.0), out=ganglion.zeros(3))


def test_out_refuses_gradients():
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        ganglion.exp(tensor(0.0).requires_grad_(), out=ganglion.zeros(1))


def test_out_may_be_an_operand():
    x = tensor(1.0, 2.0, 3.0)
    ganglion.sub(x, ganglion.ones(3), out=x)
    assert x.tolist() == [0.0, 1.0, 2.0]


def test_numbers_do_not_widen_tensors():
    assert (tensor(1, dtype="int8") + 1).dtype is ganglion.int8
    assert (tensor(1.0, dtype="float16") * 2.5).dtype is ganglion.float16
    assert (tensor(1, dtype="int8") * 2.5).dtype is ganglion.get_default_dtype()


def test_promotion_follows_the_default_dtype():
    previous = ganglion.get_default_dtype()
    ganglion.set_default_dtype(ganglion.float64)
    try:
        assert ganglion.exp(tensor(1, dtype="int32")).dtype is ganglion.float64
        assert (tensor(1, dtype="int32") / 2).dtype is ganglion.float64
    finally:
        ganglion.set_default_dtype(previous)


def test_a_result_never_shares_memory_with_its_operand():
    x = tensor(1.0, -1.0)
    for result in (abs(x), x + 0, x * 1, x**1, x.clamp(-9), x.relu(), x.nan_to_num(), x.round()):
        assert not np.shares_memory(result._data, x._data)


def test_functions_carry_their_name_and_say_what_they_do():
    assert ganglion.exp.__name__ == "exp"
    assert "e ** input" in ganglion.exp.__doc__
    assert math.isclose(ganglion.exp(tensor(1.0)).item(), math.e, rel_tol=1e-6)
