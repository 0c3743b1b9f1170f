"""Ordering and counting: what the table of samples does not see."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ShapeError, TraceError
from ganglion.ops import sort

KINDS = [
    np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64,
]  # fmt: skip


def awkward(dtype, *shape):
    """Few distinct values, the extremes of the dtype among them, in random order."""
    rng = np.random.default_rng(1)
    if np.dtype(dtype).kind == "f":
        pool = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.5, -1.5, np.finfo(dtype).tiny]
    elif np.dtype(dtype).kind == "b":
        pool = [False, True]
    else:
        pool = [np.iinfo(dtype).min, np.iinfo(dtype).max, 0, 1, 2]
    return rng.choice(np.array(pool, dtype), shape)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("size", [50, 5000])  # below and above where keys are packed
def test_sorting_is_stable_in_both_directions(dtype, size):
    x = awkward(dtype, size)
    rising = gg.argsort(gg.tensor(x)).numpy()
    np.testing.assert_array_equal(rising, np.argsort(x, kind="stable"))
    falling = gg.argsort(gg.tensor(x), descending=True).numpy()
    backwards = size - 1 - np.argsort(x[::-1], kind="stable")[::-1]
    np.testing.assert_array_equal(falling, backwards)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("largest", [False, True])
def test_topk_is_the_beginning_of_a_sort(dtype, largest):
    x = gg.tensor(awkward(dtype, 7, 900))
    values, indices = gg.topk(x, 11, largest=largest)
    expected = gg.sort(x, descending=largest)
    np.testing.assert_array_equal(indices.numpy(), expected.indices.numpy()[:, :11])
    np.testing.assert_array_equal(values.numpy(), expected.values.numpy()[:, :11])


def test_gradients_flow_to_the_chosen_elements_only():
    x = gg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    values = gg.topk(x, 2).values
    (found,) = gg.autograd.grad((values * gg.tensor([10.0, 1.0])).sum(), x)
    assert found.tolist() == [10.0, 0.0, 1.0]


def test_indices_take_no_gradient():
    values, indices = gg.sort(gg.tensor([2.0, 1.0], requires_grad=True))
    assert values.requires_grad
    assert not indices.requires_grad


def test_kthvalue_counts_nan_as_largest():
    x = gg.tensor([float("nan"), 5.0, float("nan"), 4.0])
    assert gg.kthvalue(x, 2).values.item() == 5.0
    assert np.isnan(gg.kthvalue(x, 3).values.item())


def test_median_takes_the_lower_middle():
    assert gg.median(gg.tensor([4.0, 1.0, 3.0, 2.0])).item() == 2.0
    found = gg.tensor([[4, 1, 3, 2]]).median(1)
    assert (found.values.tolist(), found.indices.tolist()) == ([2], [3])


def test_mode_prefers_the_smallest_of_the_most_frequent():
    found = gg.mode(gg.tensor([[2, 1, 2, 1, 3], [5, 5, 5, 0, 0]]), 1)
    assert found.values.tolist() == [1, 5]
    assert found.indices.tolist() == [3, 2]


def test_quantiles_interpolate_between_ranks():
    x = gg.tensor([0.0, 10.0, 20.0, 30.0])
    assert gg.quantile(x, 0.5).item() == 15.0
    assert gg.quantile(x, 0.5, interpolation="lower").item() == 10.0
    assert gg.quantile(x, gg.tensor([0.0, 0.1, 1.0])).tolist() == pytest.approx([0, 3, 30])


def test_quantiles_pass_gradients_to_both_neighbours():
    x = gg.tensor([0.0, 10.0, 20.0, 30.0], requires_grad=True)
    (found,) = gg.autograd.grad(gg.quantile(x, 0.25), x)
    np.testing.assert_allclose(found.numpy(), [0.25, 0.75, 0, 0], rtol=1e-6)


def test_searchsorted_places_nan_last():
    boundaries = gg.tensor([1.0, 3.0, 5.0])
    assert gg.searchsorted(boundaries, gg.tensor([float("nan"), 3.0])).tolist() == [3, 1]


def test_keys_of_every_dtype_rise_with_the_values():
    for dtype in KINDS[:-1]:
        x = np.sort(awkward(dtype, 100))
        keys = sort._keys(x, descending=False)
        assert keys.dtype.kind == "u"
        assert (np.diff(keys.astype(np.float64)) >= 0).all(), dtype


def test_counting_needs_values_that_a_trace_does_not_have():
    trace = pytest.importorskip("ganglion.compiler.trace").trace
    with pytest.raises(TraceError, match="unique"):
        trace(gg.unique, gg.tensor([1.0, 2.0]))


def test_bincount_refuses_negative_numbers():
    with pytest.raises(ShapeError, match="non-negative"):
        gg.bincount(gg.tensor([1, -1]))
