"""The checker passes right rules and fails wrong ones, and says why."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.autograd import Function, gradcheck, gradgradcheck
from ganglion.errors import ArgumentError, GradcheckError


def leaf(*values):
    return gg.tensor(values, dtype=gg.float64, requires_grad=True)


class Scaled(Function):
    """``x * x``, its gradient off by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x * ctx.factor, None


class Detached(Function):
    """``x * x`` with the right gradient, which pretends to be constant."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x.detach()


@pytest.mark.parametrize("fast", [False, True])
def test_right_gradients_pass(fast):
    x, y = leaf([1.0, 2.0], [3.0, 4.0]), leaf(0.5, -0.25)
    for func in (
        lambda x, y: x * y,
        lambda x, y: (x.exp().sum(), (x * y).sin()),
        lambda x, y: (x @ y).tanh(),
        lambda x, y: x.sum(),
        lambda x, y: (x * 2, x.long()),
    ):
        assert gradcheck(func, (x, y), fast_mode=fast)
        assert gradgradcheck(func, (x, y), fast_mode=fast)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("factor", [0.9, 0.0, -1.0])
def test_a_wrong_factor_fails(factor, fast):
    with pytest.raises(GradcheckError, match=r"Jacobian mismatch for output 0 .* input 0"):
        gradcheck(lambda x: Scaled.apply(x, factor), leaf(1.0, 2.0), fast_mode=fast)


def test_a_wrong_element_is_named():
    def func(x):
        return gg.stack([x[0] * 2, x[1].detach() * 3])

    with pytest.raises(GradcheckError) as failure:
        gradcheck(func, leaf(1.0, 2.0))
    message = str(failure.value)
    assert "output element (1,), input element (1,)" in message
    assert "numerical:  3" in message
    assert "analytical: 0" in message


def test_a_wrong_second_order_fails_only_there():
    x = leaf(1.0, 2.0)
    assert gradcheck(Detached.apply, x)
    with pytest.raises(GradcheckError):
        gradgradcheck(Detached.apply, x)


def test_a_gradient_with_respect_to_the_wrong_input_fails():
    class Swapped(Function):
        @staticmethod
        def forward(ctx, x, y):
            return x + 2 * y

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad, grad

    with pytest.raises(GradcheckError, match="input 0"):
        gradcheck(Swapped.apply, (leaf(1.0), leaf(2.0)))


def test_a_missing_gradient_fails():
    with pytest.raises(GradcheckError, match="analytical: 0"):
        gradcheck(lambda x: x.detach() * 2, leaf(1.0))


def test_it_can_answer_instead_of_raising():
    assert gradcheck(lambda x: Scaled.apply(x, 1.0), leaf(1.0), raise_exception=False) is True
    assert gradcheck(lambda x: Scaled.apply(x, 1.1), leaf(1.0), raise_exception=False) is False
    assert gradgradcheck(Detached.apply, leaf(1.0), raise_exception=False) is False


def test_tolerances_decide():
    def func(x):
        return Scaled.apply(x, 1.0005)

    assert gradcheck(func, leaf(1.0))
    with pytest.raises(GradcheckError):
        gradcheck(func, leaf(1.0), rtol=1e-5)
    assert gradcheck(func, leaf(1.0), rtol=1e-5, atol=1e-2)


def test_a_kink_is_explained():
    with pytest.raises(GradcheckError, match=r"left \(0\) and right \(1\).*not differentiable"):
        gradcheck(lambda x: x.relu(), leaf(1.0, 0.0))


def test_low_precision_is_explained():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    with (
        pytest.warns(UserWarning, match="float32, not float64"),
        pytest.raises(GradcheckError, match="lower precision"),
    ):
        gradcheck(lambda x: x.exp(), x)


def test_a_random_forward_is_found():
    with pytest.raises(GradcheckError, match="not deterministic"):
        gradcheck(lambda x: x * gg.rand(2, dtype=gg.float64), leaf(1.0, 2.0))


def test_a_random_backward_is_found():
    class Noisy(Function):
        calls = 0

        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            Noisy.calls += 1
            return grad * 2 + 1e-9 * Noisy.calls

    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(Noisy.apply, leaf(1.0, 2.0))
    assert gradcheck(Noisy.apply, leaf(1.0, 2.0), nondet_tol=1e-6)


def test_inputs_come_back_unchanged():
    x = leaf(1.0, 2.0)
    assert gradcheck(lambda x: x * x, x)
    with pytest.raises(ZeroDivisionError):
        gradcheck(lambda x: 1 / 0, x)
    assert x.tolist() == [1.0, 2.0]
    assert x.grad is None


def test_a_function_may_hold_its_input_by_other_means():
    x = leaf(1.0, 2.0)
    assert gradcheck(lambda _: x * x, x)


def test_other_arguments_pass_through():
    assert gradcheck(lambda x, k, name: x * k, (leaf(1.0), 3.0, "three"))


def test_something_must_require_grad():
    with pytest.raises(ArgumentError, match="at least one input"):
        gradcheck(lambda x: x, gg.ones(2))


def test_elements_that_share_memory_are_refused():
    x = gg.ones(1, dtype=gg.float64).expand(3).requires_grad_()
    with pytest.raises(ArgumentError, match="clone"):
        gradcheck(lambda x: x * 2, x)


def test_given_grad_outputs_are_used():
    x = leaf(1.0, 2.0)
    pushed = leaf(0.5, 0.0)
    assert gradgradcheck(lambda x: x * x * x, x, pushed)


def test_it_agrees_with_pytorch_on_what_passes():
    torch = pytest.importorskip("torch")
    arrays = [np.linspace(0.1, 1.0, 4), np.linspace(-1.0, -0.3, 4)]
    for func, fine in ((lambda x, y: (x * y).exp(), True), (lambda x, y: x.detach() * y, False)):
        for lib in (gg, torch):
            inputs = [lib.from_numpy(a.copy()).requires_grad_() for a in arrays]
            assert lib.autograd.gradcheck(func, inputs, raise_exception=False) is fine
