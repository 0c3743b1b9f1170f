"""Packed and padded sequences against PyTorch's."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler import interpret, trace
from ganglion.nn.utils import rnn
from tests.nn.twins import close

LENGTHS = [2, 5, 3]
VALUES = np.arange(5 * 3 * 2, dtype="f").reshape(5, 3, 2)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def same(mine, other):
    assert (mine is None) == (other is None)
    if mine is not None:
        assert str(mine.dtype).split(".")[-1] == str(other.dtype).split(".")[-1]
        close(mine, other)


def each(torch, program):
    return program(gg, rnn), program(torch, torch.nn.utils.rnn)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_packing_and_padding_back(torch, batch_first, as_tensor):
    values = VALUES.swapaxes(0, 1) if batch_first else VALUES

    def program(lib, tools):
        x = lib.tensor(values, requires_grad=True)
        lengths = lib.tensor(LENGTHS) if as_tensor else LENGTHS
        packed = tools.pack_padded_sequence(x, lengths, batch_first, enforce_sorted=False)
        padded, found = tools.pad_packed_sequence(packed, batch_first, -1.0, total_length=7)
        (padded * padded).sum().backward()
        return [*packed, padded, found, x.grad]

    for mine, other in zip(*each(torch, program), strict=True):
        same(mine, other)


@pytest.mark.parametrize("rest", [(), (2,), (2, 3)])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_steps_of_any_rank(torch, rest, dtype):
    values = np.arange(5 * 3 * np.prod(rest, dtype=int)).reshape(5, 3, *rest).astype(dtype)

    def program(lib, tools):
        packed = tools.pack_padded_sequence(lib.tensor(values), [4, 4, 1])
        return [*packed, *tools.pad_packed_sequence(packed)]

    for mine, other in zip(*each(torch, program), strict=True):
        same(mine, other)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_a_list_of_sequences(torch, batch_first, side):
    arrays = [VALUES[:n, i] for i, n in enumerate(LENGTHS)]

    def program(lib, tools):
        x = [lib.tensor(a) for a in arrays]
        padded = tools.pad_sequence(x, batch_first, 9.0, side)
        kept = padded.clone()  # PyTorch's unpadding transposes its argument in place
        return [kept, *tools.unpad_sequence(padded, lib.tensor(LENGTHS), batch_first)]

    for mine, other in zip(*each(torch, program), strict=True):
        same(mine, other)


@pytest.mark.parametrize("ordered", [True, False])
def test_packing_a_list_of_sequences(torch, ordered):
    lengths = sorted(LENGTHS, reverse=True) if ordered else LENGTHS
    arrays = [VALUES[:n, i] for i, n in enumerate(lengths)]

    def program(lib, tools):
        packed = tools.pack_sequence([lib.tensor(a) for a in arrays], enforce_sorted=ordered)
        return [*packed, *tools.unpack_sequence(packed)]

    for mine, other in zip(*each(torch, program), strict=True):
        same(mine, other)


def test_permutations_are_inverted(torch):
    for mine, other in zip(
        *each(torch, lambda lib, tools: [tools.invert_permutation(lib.tensor([2, 0, 1]))]),
        strict=True,
    ):
        same(mine, other)
    assert rnn.invert_permutation(None) is None


def test_a_packed_sequence_converts_its_data():
    packed = rnn.pack_sequence([gg.ones(2), gg.ones(3)], enforce_sorted=False)
    assert packed.double().data.dtype is gg.float64
    assert packed.half().float().data.dtype is gg.float32
    assert packed.to(gg.int32).batch_sizes is packed.batch_sizes
    assert packed.cpu() is packed
    assert not packed.is_cuda
    assert packed.unsorted_indices.tolist() == [1, 0]


def padded(*shape):
    return gg.zeros(*shape)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: rnn.pack_padded_sequence(padded(5, 3), [1, 2, 3]), RuntimeError, "decreasing"),
        (lambda: rnn.pack_padded_sequence(padded(5, 3), [3, 2]), RuntimeError, "batch_size=3"),
        (lambda: rnn.pack_padded_sequence(padded(5, 2), [3, 0]), RuntimeError, "greater than 0"),
        (lambda: rnn.pack_padded_sequence(padded(5, 2), [6, 1]), RuntimeError, "at most .* 5"),
        (lambda: rnn.pad_sequence([]), RuntimeError, "empty list"),
        (lambda: rnn.pad_sequence(3), TypeError, "Expected iterable"),
        (lambda: rnn.pad_sequence([padded(2)], padding_side="up"), RuntimeError, "left or right"),
        (lambda: rnn.pad_sequence([padded(2, 3), padded(2, 4)]), RuntimeError, r"\(2, 4\)"),
        (
            lambda: rnn.pad_packed_sequence(rnn.pack_sequence([padded(3)]), total_length=2),
            ValueError,
            "total_length=2",
        ),
    ],
)
def test_refused_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_a_step_over_sequences_of_known_lengths_can_be_traced():
    model = gg.nn.LSTM(2, 3, bidirectional=True)

    def step(x):
        packed = rnn.pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        out, (h, _) = model(packed)
        return rnn.pad_packed_sequence(out)[0], h

    x = gg.tensor(VALUES)
    for found, expected in zip(interpret.run(trace.trace(step, x), x), step(x), strict=True):
        assert (found == expected).all()
