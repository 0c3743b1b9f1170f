"""Anomaly mode names the op and the user's line that made the first NaN."""

import threading
from pathlib import Path

import pytest

import ganglion as gg
from ganglion.errors import NonFiniteError


def leaf(*values):
    return gg.tensor(values, requires_grad=True)


def line_of(text):
    """``file:line: text`` as the error gives it, for the only such line of this file."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (number,) = [i for i, line in enumerate(lines, 1) if line.strip() == text]
    return f"{__file__}:{number}: {text}"


def refusal(program):
    """What anomaly mode says to a program."""
    with pytest.raises(NonFiniteError) as failure, gg.autograd.detect_anomaly():
        program()
    return str(failure.value)


def test_a_forward_nan_names_op_and_line():
    def program():
        x = leaf(0.0, 1.0)
        y = x / 1
        z = y / x
        z.sum()

    message = refusal(program)
    assert "op 'div' made the first NaN" in message
    assert line_of("z = y / x") in message


def test_a_backward_nan_names_the_forward_line():
    def program():
        root = (leaf(0.0, 4.0) * 0).sqrt()
        (root * root.detach()).sum().backward()

    message = refusal(program)
    assert "'SqrtBackward0' returned nan values in its 0th output" in message
    assert line_of("root = (leaf(0.0, 4.0) * 0).sqrt()") in message


def test_a_nan_inside_a_library_function_names_the_users_line():
    def program():
        gg.nn.Softmax(0)(leaf(float("inf"), 1.0)).sum()

    assert line_of('gg.nn.Softmax(0)(leaf(float("inf"), 1.0)).sum()') in refusal(program)


def test_in_place_writes_are_watched():
    def program():
        y = leaf(1.0, 2.0) * 0
        y.sqrt_()
        (y * y.detach()).sum().backward()

    message = refusal(program)
    assert "SqrtBackward0" in message
    assert line_of("y.sqrt_()") in message


def test_functions_of_ones_own_are_named():
    class Broken(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            return grad * float("nan")

    def program():
        y = Broken.apply(leaf(1.0))
        y.sum().backward()

    message = refusal(program)
    assert "'BrokenBackward' returned nan values in its 0th output" in message
    assert line_of("y = Broken.apply(leaf(1.0))") in message


def test_nan_in_the_data_is_not_blamed_on_an_op():
    x = gg.tensor([float("nan"), 1.0])
    with gg.autograd.detect_anomaly():
        assert (x * 2).isnan().tolist() == [True, False]
        assert gg.where(x.isnan(), 0.0, x).tolist() == [0.0, 1.0]


def test_a_graph_from_outside_says_so():
    x = leaf(0.0)
    loss = ((x * 0).sqrt() * 0).sum()
    with gg.autograd.detect_anomaly(), pytest.raises(NonFiniteError, match="outside of anomaly"):
        loss.backward()


def test_a_nan_that_a_rule_masks_is_no_anomaly():
    class Masking(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return gg.where(x > 0, grad / x * x, 0.0)

    x = leaf(0.0, 2.0)
    with gg.autograd.detect_anomaly():
        Masking.apply(x).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0]


def test_a_nan_of_second_order_names_the_line_of_the_first_backward():
    def program():
        x = leaf(0.0)
        y = x.pow(1.5)
        (g,) = gg.autograd.grad(y, x, gg.ones(1), create_graph=True)
        g.backward(gg.zeros(1))

    message = refusal(program)
    assert "'PowBackward0' returned nan" in message
    assert line_of("(g,) = gg.autograd.grad(y, x, gg.ones(1), create_graph=True)") in message


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
