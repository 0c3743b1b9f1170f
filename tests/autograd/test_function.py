"""autograd.Function: one definition run by both libraries."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentTypeError, AutogradError, ShapeError
from tests.autograd.parity import assert_parity

torch = pytest.importorskip("torch")


def leaf(lib, *shape):
    n = int(np.prod(shape or (3,)))
    return lib.from_numpy(np.linspace(0.5, 2.0, n).reshape(shape or (3,))).requires_grad_()


def function(lib, forward, backward, setup_context=None):
    """A Function class of the library from plain functions."""
    methods = {"forward": forward, "backward": backward, "setup_context": setup_context}
    body = {name: staticmethod(f) for name, f in methods.items() if f is not None}
    return type("Mine", (lib.autograd.Function,), body)


def cube(lib):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x * x * grad

    return function(lib, forward, backward)


def exponential(lib):
    """Saves its output."""

    def forward(ctx, x):
        out = x.exp()
        ctx.save_for_backward(out)
        return out

    def backward(ctx, grad):
        (out,) = ctx.saved_tensors
        return grad * out

    return function(lib, forward, backward)


def overwriting(lib):
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    return function(lib, forward, lambda ctx, grad: grad * 2)


# --- programs -----------------------------------------------------------------------------------


def first_order(lib):
    w = leaf(lib)
    y = cube(lib).apply(w * 1)
    y.sum().backward()
    return y, w.grad, y.requires_grad, y.is_leaf


def third_order(lib):
    w, found = leaf(lib), []
    y = cube(lib).apply(w)
    for _ in range(3):
        (y,) = lib.autograd.grad(y.sum(), w, create_graph=True)
        found.append(y)
    return found


def a_saved_output(lib):
    w = leaf(lib)
    (g,) = lib.autograd.grad(exponential(lib).apply(w).sum(), w, create_graph=True)
    (h,) = lib.autograd.grad((g * g).sum(), w)
    return g, h


def several_arguments_of_any_kind(lib):
    def forward(ctx, x, power, name, y, nothing):
        ctx.power = power
        ctx.save_for_backward(x, None, y)
        return x**power * y

    seen = []

    def backward(ctx, grad):
        x, none, y = ctx.saved_tensors
        seen.extend((ctx.needs_input_grad, none is None))
        return grad * ctx.power * x ** (ctx.power - 1) * y, None, None, grad * x**ctx.power, None

    w, v = leaf(lib), leaf(lib).detach()
    Mine = function(lib, forward, backward)
    Mine.apply(w, 3, "cube", v, None).sum().backward()
    v.requires_grad_()
    Mine.apply(w.detach(), 3, "cube", v, None).sum().backward()
    return w.grad, v.grad, *[np.array(x) for x in seen]


def several_outputs(lib):
    def forward(ctx, x):
        return x * 2, x * 3, x * 4

    seen = []

    def backward(ctx, *grads):
        seen.extend(g.clone() for g in grads)
        return grads[0] * 2 + grads[1] * 3 + grads[2] * 4

    w = leaf(lib)
    a, b, c = function(lib, forward, backward).apply(w)
    (a.sum() + (c * c).sum()).backward()
    return *seen, w.grad, a.output_nr, b.output_nr, c.output_nr


def gradients_not_materialized(lib):
    seen = []

    def forward(ctx, x):
        ctx.set_materialize_grads(False)
        return x * 2, x * 3

    def backward(ctx, a, b):
        seen.append(a is None)
        return b * 3

    w = leaf(lib)
    function(lib, forward, backward).apply(w)[1].sum().backward()
    return *seen, w.grad


def outputs_without_gradient(lib):
    def forward(ctx, x):
        order = x.argsort()
        copy = x * 2
        ctx.mark_non_differentiable(copy)
        return x * 3, order, copy, 7, None

    seen = []

    def backward(ctx, *grads):
        seen.extend(g if g is None else g.clone() for g in grads[2:])
        return grads[0] * 3

    w = leaf(lib)
    y, order, copy, seven, none = function(lib, forward, backward).apply(w)
    y.sum().backward()
    flags = y.requires_grad, order.requires_grad, copy.requires_grad
    return *flags, seven, none, *seen, w.grad


def a_separate_setup(lib):
    def forward(x, k):
        return x * k

    def setup_context(ctx, inputs, output):
        x, ctx.k = inputs
        ctx.save_for_backward(x, output)

    def backward(ctx, grad):
        x, out = ctx.saved_tensors
        return grad * ctx.k + (out - x * ctx.k), None

    w = leaf(lib)
    Mine = function(lib, forward, backward, setup_context)
    (g,) = lib.autograd.grad(Mine.apply(w, 4.0).sum(), w)
    (h,) = lib.autograd.grad(Mine.apply(w, k=5.0).sum(), w)
    return g, h


def a_gradient_of_none(lib):
    w, v = leaf(lib), leaf(lib)
    Mine = function(lib, lambda ctx, x, y: x * y, lambda ctx, grad: (grad, None))
    Mine.apply(w, v).sum().backward()
    return w.grad, v.grad


def too_many_gradients_of_none(lib):
    w = leaf(lib)
    function(lib, lambda ctx, x: x * 2, lambda ctx, grad: (grad, None, None)).apply(
        w
    ).sum().backward()
    return (w.grad,)


def too_few_gradients(lib):
    w = leaf(lib)
    function(lib, lambda ctx, x, k: x * k, lambda ctx, grad: grad).apply(w, 2.0).sum().backward()


def a_gradient_for_a_number(lib):
    w = leaf(lib)
    Mine = function(lib, lambda ctx, x, k: x * k, lambda ctx, grad: (grad, grad))
    Mine.apply(w, 2.0).sum().backward()


def a_gradient_of_the_wrong_shape(lib):
    w = leaf(lib)
    function(lib, lambda ctx, x: x.sum(), lambda ctx, grad: lib.ones(2).double()).apply(
        w
    ).backward()


def a_gradient_to_be_summed(lib):
    w = leaf(lib, 1)
    Mine = function(lib, lambda ctx, x: x * lib.ones(3).double(), lambda ctx, grad: grad * 2)
    Mine.apply(w).sum().backward()
    return (w.grad,)


def without_grad_mode(lib):
    w = leaf(lib)
    with lib.no_grad():
        y = cube(lib).apply(w)
    return y, y.requires_grad


def of_constants(lib):
    y = cube(lib).apply(leaf(lib).detach())
    return y, y.requires_grad


def recording_is_off_in_forward(lib):
    seen = []

    def forward(ctx, x):
        seen.append((x * 2).requires_grad)
        return x * 1

    def backward(ctx, grad):
        seen.append((grad * 2).requires_grad)
        return grad

    w = leaf(lib)
    function(lib, forward, backward).apply(w).sum().backward()
    return seen


def an_input_overwritten(lib):
    w = leaf(lib)
    x = w * 1
    y = overwriting(lib).apply(x)
    (y * x).sum().backward()
    return y is x, x, w.grad, x._version > 0


def a_view_overwritten(lib):
    w = leaf(lib)
    x = w * 1
    overwriting(lib).apply(x[:2])
    (x * x).sum().backward()
    return x, w.grad


def a_leaf_overwritten(lib):
    overwriting(lib).apply(leaf(lib))


def an_input_returned(lib):
    w = leaf(lib)
    y = function(lib, lambda ctx, x: x, lambda ctx, grad: grad * 7).apply(w)
    (y * 2).sum().backward()
    return y, y is w, w.grad


def an_input_returned_and_overwritten_later(lib):
    x = leaf(lib) * 1
    function(lib, lambda ctx, x: x, lambda ctx, grad: grad).apply(x).add_(1)


def a_view_returned(lib):
    w = leaf(lib)
    Mine = function(lib, lambda ctx, x: x.view(3, 1), lambda ctx, grad: grad.view(3) * 5)
    y = Mine.apply(w * 1)
    y.sum().backward()
    return y, w.grad


def a_view_returned_and_overwritten_later(lib):
    Mine = function(lib, lambda ctx, x: x.view(3, 1), lambda ctx, grad: grad.view(3))
    Mine.apply(leaf(lib) * 1).mul_(2)


def a_saved_input_that_changed(lib):
    w = leaf(lib)
    x = w * 1
    y = cube(lib).apply(x)
    x.add_(1)
    y.sum().backward()


def a_saved_output_that_changed(lib):
    y = exponential(lib).apply(leaf(lib))
    y.add_(1)
    y.sum().backward()


def a_changed_input_that_is_not_read(lib):
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 2

    w = leaf(lib)
    x = w * 1
    y = function(lib, forward, lambda ctx, grad: grad * 2).apply(x)
    x.add_(1)
    y.sum().backward()
    return (w.grad,)


def twice(lib):
    y = cube(lib).apply(leaf(lib)).sum()
    y.backward()
    y.backward()


def twice_with_retained_graph(lib):
    w = leaf(lib)
    y = cube(lib).apply(w).sum()
    y.backward(retain_graph=True)
    y.backward()
    return (w.grad,)


def twice_with_nothing_saved(lib):
    w = leaf(lib)
    y = function(lib, lambda ctx, x: x * 2, lambda ctx, grad: grad * 2).apply(w).sum()
    y.backward()
    y.backward()
    return (w.grad,)


def differentiable_once(lib):
    once = lib.autograd.function.once_differentiable

    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @once
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x

    return function(lib, forward, backward)


def once_is_enough(lib):
    w = leaf(lib)
    (g,) = lib.autograd.grad(differentiable_once(lib).apply(w).sum(), w, create_graph=True)
    return g, g.requires_grad


def twice_is_too_much(lib):
    w = leaf(lib)
    y = differentiable_once(lib).apply(w * w)
    (g,) = lib.autograd.grad((y * w).sum(), w, create_graph=True)
    g.sum().backward()


def without_a_backward(lib):
    Mine = type("Mine", (lib.autograd.Function,), {"forward": staticmethod(lambda ctx, x: x * 2)})
    Mine.apply(leaf(lib)).sum().backward()


PROGRAMS = [
    found
    for found in tuple(globals().values())
    if getattr(found, "__code__", None)
    and found.__code__.co_varnames[: found.__code__.co_argcount] == ("lib",)
    and found not in (cube, exponential, overwriting, differentiable_once, leaf)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_a_program_agrees_with_pytorch(program):
    assert_parity(program, torch, rtol=1e-12)


# --- ours ---------------------------------------------------------------------------------------


def test_the_node_is_the_context():
    def forward(ctx, x):
        ctx.note = "kept"
        ctx.save_for_backward(x)
        return x * 2

    w = leaf(gg)
    y = function(gg, forward, lambda ctx, grad: grad * 2).apply(w)
    assert y.grad_fn.name() == "MineBackward"
    assert y.grad_fn.note == "kept"
    assert y.grad_fn.saved_tensors[0] is w
    assert y.grad_fn.next_functions[0][0].variable is w
    y.sum().backward()
    with pytest.raises(AutogradError, match="retain_graph=True"):
        _ = y.grad_fn.saved_tensors


def test_errors_name_the_function():
    w = leaf(gg)
    few = function(gg, lambda ctx, x, k: x * k, lambda ctx, grad: grad)
    with pytest.raises(AutogradError, match=r"MineBackward .*\(expected 2, got 1\)"):
        few.apply(w, 2.0).sum().backward()
    number = function(gg, lambda ctx, x, k: x * k, lambda ctx, grad: (grad, grad))
    with pytest.raises(AutogradError, match=r"at position 2, .* not a tensor"):
        number.apply(w, 2.0).sum().backward()
    wrong = function(gg, lambda ctx, x: x * 1, lambda ctx, grad: gg.ones(2))
    with pytest.raises(ShapeError, match=r"index 0 - got \(2,\) .* compatible with \(3,\)"):
        wrong.apply(w).sum().backward()
    array = function(gg, lambda ctx, x: x * 1, lambda ctx, grad: 3.0)
    with pytest.raises(ArgumentTypeError, match="must return tensors or None, but returned float"):
        array.apply(w).sum().backward()
    with pytest.raises(AutogradError, match="once_differentiable"):
        twice_is_too_much(gg)
    with pytest.raises(AutogradError, match="Output 0 of MineBackward is a view"):
        a_view_returned_and_overwritten_later(gg)


def test_only_tensors_are_saved():
    def forward(ctx, x):
        ctx.save_for_backward(x, 3)
        return x * 1

    with pytest.raises(ArgumentTypeError, match="argument 1 is of type int"):
        function(gg, forward, lambda ctx, grad: grad).apply(leaf(gg))


def test_numpy_may_compute_inside():
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return gg.from_numpy(np.sin(x.detach().numpy()))

    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * gg.from_numpy(np.cos(x.detach().numpy()))

    w = leaf(gg)
    Sine = function(gg, forward, gg.autograd.function.once_differentiable(backward))
    (Sine.apply(w) * 2).sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * np.cos(w.detach().numpy()))


def test_functions_are_traced():
    from ganglion.compiler.interpret import run
    from ganglion.compiler.trace import trace

    def step(w):
        w = w.requires_grad_()
        (g,) = gg.autograd.grad(cube(gg).apply(w).sum() + exponential(gg).apply(w).sum(), w)
        return g

    w = leaf(gg).detach()
    program = trace(step, w)
    np.testing.assert_allclose(run(program, w * 2).numpy(), step(w * 2).numpy(), rtol=1e-12)


def test_gradcheck_passes_through_functions():
    assert gg.autograd.gradcheck(cube(gg).apply, leaf(gg))
    assert gg.autograd.gradgradcheck(exponential(gg).apply, leaf(gg))
