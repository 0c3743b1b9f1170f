"""What the op table's walk does not see of indexing: writes in place, repeats, errors, leaves."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import AutogradError, IndexingError, ShapeError


def test_basic_keys_give_views_and_tensors_give_copies():
    x = gg.zeros(3, 4)
    x[1].fill_(1)
    x[[0]].fill_(5)
    x[gg.tensor(2)].fill_(2)  # one integer in a tensor is an integer
    assert x[:, 0].tolist() == [0, 1, 2]


def test_an_integer_tensor_of_no_dimensions_inside_a_trace_is_an_index():
    from ganglion.compiler.interpret import run
    from ganglion.compiler.trace import trace

    def pick(x, i):
        return x[i] * 2

    x, i = gg.arange(4.0), gg.tensor(2)
    program = trace(pick, x, i)
    assert run(program, x, i).item() == 4
    assert run(program, x, gg.tensor(3)).item() == 6


def test_a_number_is_stored_under_a_mask_inside_a_trace():
    from ganglion.compiler.interpret import run
    from ganglion.compiler.trace import trace

    def clip(x):
        y = x.clone()
        y[y < 0] = 0.0
        y[0, 1:] += 5
        y[:, [0, 2]] = y[:, [1, 1]]
        return y

    x = gg.tensor([[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0]])
    assert run(trace(clip, x), x).tolist() == clip(x).tolist() == [[7, 7, 7], [0, 0, 0]]


def test_a_mask_read_inside_a_trace_is_refused():
    from ganglion.compiler.trace import trace
    from ganglion.errors import TraceError

    with pytest.raises(TraceError, match="mask_positions"):
        trace(lambda x: x[x > 0], gg.ones(3))


def test_repeated_positions_all_receive_gradient():
    w = gg.zeros(3, 2, requires_grad=True)
    w[gg.tensor([0, 0, 2, 0])].sum().backward()
    assert w.grad.tolist() == [[3, 3], [0, 0], [1, 1]]


def test_storing_at_repeated_positions_keeps_the_last():
    x = gg.zeros(2)
    x[[0, 0, 0]] = gg.tensor([1.0, 2.0, 3.0])
    assert x.tolist() == [3, 0]


def test_adding_at_repeated_positions_counts_them_all():
    x = gg.zeros(3)
    x.index_put_((gg.tensor([1, 1, -1]),), gg.tensor([1.0, 2.0, 4.0]), accumulate=True)
    assert x.tolist() == [0, 3, 4]
    x[[1, 1]] += 10  # reads both, stores the last, as in PyTorch
    assert x.tolist() == [0, 13, 4]


def test_stored_values_and_overwritten_ones_get_their_gradients():
    w, v = gg.ones(3, requires_grad=True), gg.ones((), requires_grad=True)
    x = w * 2
    x[1] = v * 5
    x[[2]] = v.reshape(1) * 7
    (x * gg.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert w.grad.tolist() == [2, 0, 0]
    assert v.grad.item() == 750


def test_storing_gives_history_to_a_tensor_that_had_none():
    v = gg.ones(2, requires_grad=True)
    x = gg.zeros(3, 2)
    x[1:][0] = v
    x[:, 1][[0, 2]] = v * 3
    assert x.requires_grad
    x.sum().backward()
    assert v.grad.tolist() == [4, 4]


def test_increasing_a_view_stores_nothing_twice():
    w = gg.ones(3, requires_grad=True)
    x = w * 1
    version = x._version
    x[0] += 2
    assert x._version == version + 1
    x.sum().backward()
    assert w.grad.tolist() == [1, 1, 1]


def test_storing_without_gradients_writes_in_place_with_an_index_too():
    x = gg.zeros(1000)
    memory = x.numpy()
    x[gg.tensor([3, 5])] = 1
    x[2:][x[2:] == 0] = gg.full((996,), 4.0)
    assert x.numpy() is memory
    assert memory[:7].tolist() == [0, 0, 4, 1, 4, 1, 4]
    assert x._version == 2


def test_a_mask_over_part_of_a_transposed_tensor_is_stored_through():
    x = gg.zeros(2, 3, 2)
    x.permute(1, 2, 0)[gg.tensor([[True, False], [False, True], [False, False]])] = gg.tensor(
        [[1.0, 2.0], [3.0, 4.0]]
    )
    assert x[0].tolist() == [[1, 0], [0, 3], [0, 0]]
    assert x[1].tolist() == [[2, 0], [0, 4], [0, 0]]


def test_leaves_are_refused_while_gradients_are_recorded():
    w = gg.ones(3, requires_grad=True)
    for key in (0, slice(2), [0], gg.tensor([True, False, True])):
        with pytest.raises(AutogradError, match="leaf"):
            w[key] = 1
        with pytest.raises(AutogradError, match="leaf"):
            w[key] += 1
    with gg.no_grad():
        w[0] = 5
        w[[1]] = 6
    assert w.tolist() == [5, 6, 1]


def test_values_are_converted_to_the_dtype_of_the_tensor():
    x = gg.zeros(3, dtype=gg.int64)
    x[0] = 2.9
    x[1:] = gg.tensor([1.5, -1.5])
    x[[1]] = gg.tensor([7.7])
    assert x.tolist() == [2, 7, -1]


def test_lists_and_arrays_may_be_stored():
    x = gg.zeros(2, 2)
    x[0] = [1, 2]
    x[1] = np.array([3.0, 4.0])
    assert x.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_two_byte_floats_are_stored_in_place(dtype):
    x = gg.zeros(4, dtype=dtype)
    x[[0, 2]] = 1.5
    x[1] = 2.5
    x.index_add_(0, gg.tensor([3, 3]), gg.ones(2, dtype=dtype))
    assert x.dtype is dtype
    assert x.float().tolist() == [1.5, 2.5, 1.5, 2]


def test_positions_out_of_range_leave_the_tensor_as_it_was():
    x = gg.zeros(3)
    with pytest.raises(IndexingError, match="index 3 is out of bounds for dimension 0 with size 3"):
        x[[0, 3]] = 1
    assert x.sum().item() == 0


def test_errors_name_the_dimension_of_the_tensor_indexed():
    x = gg.zeros(2, 3, 4)
    with pytest.raises(IndexingError, match="index 9 is out of bounds for dimension 2 with size 4"):
        x[:, [0], [9]]
    with pytest.raises(IndexingError, match=r"\(2, 4\).*\(2, 3, 4\) at index 0"):
        x[gg.zeros(2, 4, dtype=gg.bool)]
    with pytest.raises(
        ShapeError, match=r"\(5,\) cannot be broadcast to indexing result .*\(2, 4\)"
    ):
        x[0, [0, 1]] = gg.zeros(5)


def test_scatter_add_of_many_equals_counting():
    rng = np.random.default_rng(0)
    index, values = rng.integers(0, 50, 10_000), rng.normal(size=10_000)
    found = gg.zeros(50, dtype=gg.float64).scatter_add(
        0, gg.from_numpy(index), gg.from_numpy(values)
    )
    np.testing.assert_allclose(found.numpy(), np.bincount(index, values, 50), rtol=1e-10)


def test_one_hot_makes_as_many_classes_as_it_sees():
    assert gg.nn.functional.one_hot(gg.tensor([1, 0])).tolist() == [[0, 1], [1, 0]]


def test_where_alone_gives_the_indices_of_true():
    rows, columns = gg.where(gg.tensor([[0, 1], [1, 0]]) > 0)
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [1, 0]
