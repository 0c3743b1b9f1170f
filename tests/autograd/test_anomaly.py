"""Anomaly mode names the op and the user's line that made the first NaN."""

import threading

import pytest

import ganglion as gg
from ganglion.errors import NonFiniteError


def leaf(*values):
    return gg.tensor(values, requires_grad=True)


def line_of(text):
    """``file:line: text`` as the error gives it, for the only such line of this file."""
    with open(__file__, encoding="utf-8") as source:
        (number,) = [i for i, line in enumerate(source, 1) if line.strip() == text]
    return f"{__file__}:{number}: {text}"


def test_a_forward_nan_names_op_and_line():
    x = leaf(0.0, 1.0)
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        y = x / 1
        z = y / x
        z.sum()
    assert "op 'div' made the first NaN" in str(failure.value)
    assert line_of("z = y / x") in str(failure.value)


def test_a_backward_nan_names_the_forward_line():
    x = leaf(0.0, 4.0)
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        root = (x * 0).sqrt()
        (root * root.detach()).sum().backward()
    assert "'SqrtBackward0' returned nan values in its 0th output" in str(failure.value)
    assert line_of("root = (x * 0).sqrt()") in str(failure.value)


def test_a_nan_inside_a_library_function_names_the_users_line():
    x = leaf(float("inf"), 1.0)
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        gg.nn.functional.normalize(x, dim=0).sum()
    assert line_of("gg.nn.functional.normalize(x, dim=0).sum()") in str(failure.value)


def test_in_place_writes_are_watched():
    x = leaf(1.0, 2.0)
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        y = x * 0
        y.sqrt_()
        (y * 2).sum().backward()
    assert "SqrtBackward0" in str(failure.value)
    assert line_of("y.sqrt_()") in str(failure.value)


def test_functions_of_ones_own_are_named():
    class Broken(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * float("nan")

    x = leaf(1.0)
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        y = Broken.apply(x)
        y.sum().backward()
    assert "mul" in str(failure.value) or "BrokenBackward" in str(failure.value)


def test_nan_in_the_data_is_not_blamed_on_an_op():
    x = gg.tensor([float("nan"), 1.0])
    with gg.autograd.detect_anomaly():
        assert (x * 2).isnan().tolist() == [True, False]
        assert gg.where(x.isnan(), 0.0, x).tolist() == [0.0, 1.0]


def test_a_graph_from_outside_says_so():
    x = leaf(0.0)
    loss = ((x * 0).sqrt() * 0).sum()
    with pytest.raises(NonFiniteError, match="outside of anomaly mode"), gg.autograd.detect_anomaly():
        loss.backward()


def test_nothing_is_watched_outside():
    x = leaf(0.0)
    with gg.autograd.detect_anomaly():
        assert gg.autograd.is_anomaly_enabled()
    assert not gg.autograd.is_anomaly_enabled()
    (x / x).sum().backward()
    assert x.grad.isnan().all()


def test_the_switch_acts_at_once_and_in_blocks():
    x = leaf(0.0)
    gg.autograd.set_detect_anomaly(True)
    try:
        with pytest.raises(NonFiniteError):
            _ = x / x
        with gg.autograd.set_detect_anomaly(False):
            _ = x / x
        with pytest.raises(NonFiniteError):
            _ = x / x
    finally:
        gg.autograd.set_detect_anomaly(False)
    _ = x / x


def test_blocks_nest():
    x = leaf(0.0)
    with gg.autograd.detect_anomaly():
        with gg.autograd.detect_anomaly():
            pass
        with pytest.raises(NonFiniteError):
            _ = x / x
    _ = x / x


def test_other_threads_are_not_watched():
    found = []
    with gg.autograd.detect_anomaly():
        thread = threading.Thread(target=lambda: found.append(gg.autograd.is_anomaly_enabled()))
        thread.start()
        thread.join()
    assert found == [False]


def test_numbers_that_are_fine_pass():
    x = leaf(1.0, 2.0)
    with gg.autograd.detect_anomaly():
        (x.log() * x).sum().backward()
        x.grad.zero_()
    assert x.grad.tolist() == [0.0, 0.0]
