"""Tensors from data, beside PyTorch's."""

import warnings

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentError, ArgumentTypeError, DTypeError
from ganglion.ops.create import FULL

torch = pytest.importorskip("torch")


def same(call):
    """The same call in both libraries gives equal values, shapes and dtypes."""
    mine, other = call(gg), call(torch)
    assert str(mine.dtype).split(".")[1] == str(other.dtype).split(".")[1]
    assert tuple(mine.shape) == tuple(other.shape)
    np.testing.assert_allclose(mine.tolist(), other.tolist(), 1e-6)


DATA = [
    3, 2.5, True, [], [[], []], [1, 2], [1, 2.5, True], [True, 2], [[1, 2.0], [3, True]],
    (1, (2)), range(3), np.float64(3), np.float32(3), np.bool_(True), np.int16(3),
    [np.float64(3)], [np.float32(3)], [np.float32(3), 1.0], [1.0, np.float64(3)], [np.int32(3)],
    [np.array([1.0, 2.0])], np.array(3.0), np.ones((2, 3), np.int8), np.ones(3) > 0, 1e40,
]  # fmt: skip


@pytest.mark.parametrize("data", DATA, ids=repr)
def test_data_gives_pytorchs_dtype_and_values(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # PyTorch on lists of arrays
        same(lambda lib: lib.tensor(data))
        same(lambda lib: lib.as_tensor(data))
        same(lambda lib: lib.asarray(data))


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "bfloat16", "float64"])
def test_a_dtype_converts(dtype):
    for data in (1.75, [1, 0], np.array([0.0, 3.5]), [[True]]):
        same(lambda lib, data=data: lib.tensor(data, dtype=getattr(lib, dtype)))


def test_pythons_types_name_dtypes():
    for kind in (int, float, bool):
        same(lambda lib, kind=kind: lib.zeros(2, dtype=kind))


def test_tensors_inside_lists_are_read_without_their_history():
    x = gg.tensor(1.5, requires_grad=True)
    found = gg.tensor([x, 2])
    assert found.tolist() == [1.5, 2.0]
    assert not found.requires_grad
    same(lambda lib: lib.tensor([lib.tensor(1), lib.tensor(2.5)]))


def test_a_new_tensor_shares_nothing():
    array = np.ones(2, np.float32)
    x = gg.tensor(array)
    y = gg.tensor(x)
    array[0] = 5
    assert x.tolist() == y.tolist() == [1, 1]
    assert x.data_ptr() != y.data_ptr()


def test_from_numpy_and_as_tensor_share_memory():
    array = np.ones(2, np.float32)
    shared = [gg.from_numpy(array), gg.as_tensor(array), gg.asarray(array)]
    array[0] = 5
    assert all(x.tolist() == [5, 1] for x in shared)
    shared[0].mul_(2)
    assert array.tolist() == [10, 2]


def test_as_tensor_gives_back_the_tensor_unless_the_dtype_changes():
    x = gg.ones(2, requires_grad=True)
    assert gg.as_tensor(x) is x
    gg.as_tensor(x, dtype=gg.float64).sum().backward()
    assert x.grad.tolist() == [1, 1]


def test_asarray_copies_on_request_and_never_when_forbidden():
    array = np.ones(2, np.float32)
    assert gg.asarray(array, copy=True).data_ptr() != array.__array_interface__["data"][0]
    assert gg.asarray(array, copy=False).data_ptr() == array.__array_interface__["data"][0]
    for given in ([1, 2], array):
        with pytest.raises(ArgumentError, match="cannot share"):
            gg.asarray(given, dtype=gg.float64, copy=False)


def test_read_only_arrays_are_shared_and_refuse_writes():
    array = np.broadcast_to(np.float32(1), (3,))
    x = gg.from_numpy(array)
    assert x.tolist() == [1, 1, 1]
    with pytest.raises(Exception, match=r"read-only|more than one element"):
        x.add_(1)


def test_foreign_byte_order_is_copied_but_never_shared():
    array = np.array([1, 2], ">i4")
    assert gg.tensor(array).tolist() == gg.as_tensor(array).tolist() == [1, 2]
    with pytest.raises(ArgumentError, match="byte order"):
        gg.from_numpy(array)


def test_dlpack_goes_both_ways_without_copying():
    mine, other = gg.arange(3.0), torch.arange(3.0)
    assert torch.from_dlpack(mine).tolist() == [0, 1, 2]
    taken = gg.from_dlpack(other)
    other[0] = 9
    assert taken.tolist() == [9, 1, 2]
    assert gg.from_dlpack(mine).data_ptr() == mine.data_ptr()
    with pytest.raises(ArgumentTypeError, match="__dlpack__"):
        gg.from_dlpack([1])


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ([[1, 2], [3]], ArgumentError, "at dim 1 one has length 2 and another 1"),
        ([[1, 2], 3], ArgumentError, "at dim 1 .* no sequence"),
        ([1, [2]], ArgumentError, "at dim 1"),
        (["a"], DTypeError, "infer dtype of str"),
        (None, DTypeError, "infer dtype of NoneType"),
        ([None], DTypeError, "None is not a number"),
        ({1: 2}, DTypeError, "infer dtype of dict"),
        (b"ab", DTypeError, "infer dtype of bytes"),
        (1 + 2j, DTypeError, "infer dtype of complex"),
        (2**63, DTypeError, "int64"),
        (np.array(["a"]), DTypeError, "<U1"),
        (np.ones(2, np.complex64), DTypeError, "complex64"),
    ],
)
def test_what_is_no_block_of_numbers_is_refused(data, error, match):
    with pytest.raises(error, match=match):
        gg.tensor(data)
    if not isinstance(data, complex) and getattr(data, "dtype", None) != np.complex64:
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            torch.tensor(data)


@pytest.mark.parametrize(("data", "dtype"), [(300, "uint8"), ([-129], "int8"), (1e10, "int32")])
def test_integers_that_do_not_fit_are_refused(data, dtype):
    for lib in (gg, torch):
        with pytest.raises(RuntimeError, match="without overflow"):
            lib.tensor(data, dtype=getattr(lib, dtype))


def test_negative_numbers_wrap_around_in_uint8():
    same(lambda lib: lib.tensor([-1, 3], dtype=lib.uint8))


def test_only_floats_can_require_gradients():
    assert gg.tensor([1.0], requires_grad=True).is_leaf
    with pytest.raises(DTypeError, match="floating"):
        gg.tensor([1], requires_grad=True)


def test_from_numpy_takes_arrays_only():
    with pytest.raises(ArgumentTypeError, match="got list"):
        gg.from_numpy([1])


def test_the_default_dtype_counts():
    gg.set_default_dtype(gg.float64)
    try:
        assert gg.tensor(1.0).dtype is gg.zeros(1).dtype is gg.arange(1.0).dtype is gg.float64
    finally:
        gg.set_default_dtype(gg.float32)
    assert gg.tensor(1.0).dtype is gg.float32


def test_typed_constructors_take_sizes_or_data():
    same(lambda lib: lib.FloatTensor([1, 2]))
    same(lambda lib: lib.LongTensor([1, 2]))
    assert gg.LongTensor(2, 3).shape == (2, 3)
    with pytest.raises(ArgumentTypeError, match="sizes or one sequence"):
        gg.LongTensor([1], [2])


def test_out_is_filled_and_sets_the_dtype():
    out = gg.ones(2, 3, dtype=gg.int64)
    assert gg.zeros(2, 3, out=out) is out
    assert out.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert gg.arange(3, out=gg.empty(0, dtype=gg.int32)).dtype is gg.int32


def test_constants_come_from_records_so_that_a_trace_sees_them():
    assert FULL(shape=(2,), value=1.0, dtype=gg.float32).tolist() == [1, 1]
    assert gg.zeros(2).tolist() == FULL(shape=(2,), value=0, dtype=gg.float32).tolist()


def test_is_tensor():
    assert gg.is_tensor(gg.ones(1))
    assert not gg.is_tensor(np.ones(1))
