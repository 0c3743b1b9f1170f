"""backward() and grad(): what they compute, keep, free and refuse."""

import warnings

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentError, ArgumentTypeError, AutogradError, DTypeError, ShapeError
from tests.autograd.parity import assert_parity

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")


def leaf(lib, *shape):
    n = int(np.prod(shape or (3,)))
    values = np.linspace(0.5, 1.5, n, dtype=np.float32).reshape(shape or (3,))
    return lib.from_numpy(values).requires_grad_()


# --- programs that agree with PyTorch -----------------------------------------------------------


def gradients_accumulate(lib):
    w = leaf(lib)
    (w * w).sum().backward()
    (w * 3).sum().backward()
    return (w.grad,)


def a_leaf_used_often_gets_the_sum(lib):
    w = leaf(lib)
    (w * w + w.exp() * w - w).sum().backward()
    return (w.grad,)


def given_gradients(lib):
    w = leaf(lib)
    (w * w).backward(lib.tensor([1.0, 2.0, 3.0]))
    return (w.grad,)


def a_given_gradient_of_another_dtype(lib):
    w = leaf(lib)
    (w * w).backward(lib.tensor([1, 2, 3]))
    return (w.grad,)


def a_given_gradient_of_another_shape(lib):
    w = leaf(lib)
    (w * w).backward(lib.ones(2))


def no_gradient_for_many_elements(lib):
    (leaf(lib) * 2).backward()


def nothing_to_differentiate(lib):
    lib.ones(()).backward()


def a_leaf_as_root(lib):
    w = leaf(lib, 1)
    w.backward()
    w.backward()
    return (w.grad,)


def several_roots(lib):
    w = leaf(lib)
    lib.autograd.backward([(w * 2).sum(), w * w], [None, lib.ones(3)])
    return (w.grad,)


def twice_without_saved_values(lib):
    w = leaf(lib)
    y = (w + w).sum()
    y.backward()
    y.backward()
    return (w.grad,)


def twice_with_saved_values(lib):
    w = leaf(lib)
    y = (w * w).sum()
    y.backward()
    y.backward()


def twice_on_a_shared_part(lib):
    w = leaf(lib)
    shared = w.exp()
    (shared * 2).sum().backward()
    (shared * 3).sum().backward()


def twice_with_retained_graph(lib):
    w = leaf(lib)
    y = (w * w).sum()
    y.backward(retain_graph=True)
    y.backward()
    return (w.grad,)


def a_created_graph_is_retained(lib):
    w = leaf(lib)
    y = (w * w).sum()
    lib.autograd.grad(y, w, create_graph=True)
    y.backward()
    return (w.grad,)


def third_order(lib):
    w = leaf(lib)
    y = (w * w * w * w + w.exp()).sum()
    grads = []
    for _ in range(3):
        (g,) = lib.autograd.grad(y, w, create_graph=True)
        grads.append(g)
        y = g.sum()
    return grads


def through_a_created_graph_into_grad(lib):
    w = leaf(lib)
    (w * w * w).sum().backward(create_graph=True)
    first = w.grad
    w.grad = None
    first.sum().backward()
    return first, w.grad


def inner_values(lib):
    w = leaf(lib)
    y = w * 2
    z = y * y
    return lib.autograd.grad(z.sum(), [w, y, z])


def an_input_given_twice(lib):
    w = leaf(lib)
    return lib.autograd.grad((w * 2).sum(), [w, w])


def a_leaf_by_itself(lib):
    w = leaf(lib, 1)
    return lib.autograd.grad(w, w)


def an_unused_input(lib):
    return lib.autograd.grad(leaf(lib).sum(), leaf(lib))


def an_unused_input_allowed(lib):
    w, v = leaf(lib), leaf(lib)
    return lib.autograd.grad(w.sum(), [v, w], allow_unused=True)


def an_unused_input_as_zeros(lib):
    w, v = leaf(lib), leaf(lib, 2, 2)
    return lib.autograd.grad(w.sum(), [v, w], materialize_grads=True)


def an_input_without_grad(lib):
    return lib.autograd.grad(leaf(lib).sum(), lib.ones(3))


def backward_into_some_inputs(lib):
    w, v = leaf(lib), leaf(lib)
    y = w * v
    (y * y).sum().backward(inputs=[w, y])
    return w.grad, v.grad, y.grad


def backward_into_no_inputs(lib):
    leaf(lib).sum().backward(inputs=[])


def backward_into_an_input_without_grad(lib):
    leaf(lib).sum().backward(inputs=[lib.ones(3)])


def grad_leaves_grad_alone(lib):
    w = leaf(lib)
    lib.autograd.grad((w * w).sum(), w)
    return (w.grad,)


def one_of_several_outputs(lib):
    w = leaf(lib, 4, 3)
    values, _ = w.sort(0)
    first, *_ = w.split(1)
    (values[0].sum() + (first * first).sum()).backward()
    return (w.grad,)


def broadcasting_is_summed_back(lib):
    a, b, c = leaf(lib, 2, 1, 3), leaf(lib, 4, 1), leaf(lib, 1)
    (a * b * c).sum().backward()
    return a.grad, b.grad, c.grad


def dtypes_are_cast_back(lib):
    a, b = leaf(lib), leaf(lib).detach().double().requires_grad_()
    (a * b).sum().backward()
    return a.grad, b.grad


def an_integer_branch_takes_no_gradient(lib):
    w = leaf(lib)
    k = (w * 10).long()
    (w * k).sum().backward()
    return w.grad, k.requires_grad


def detached_parts_are_constants(lib):
    w = leaf(lib)
    (w * (w * w).detach()).sum().backward()
    return (w.grad,)


def nothing_is_recorded_without_grad_mode(lib):
    w = leaf(lib)
    with lib.no_grad():
        y = w * 2
        with lib.enable_grad():
            z = w * 3
    return y.requires_grad, y.is_leaf, z.requires_grad, z.is_leaf


def requires_grad_of_a_result_cannot_be_dropped(lib):
    (leaf(lib) * 2).requires_grad_(False)


def requires_grad_can_be_dropped_on_leaves(lib):
    w = leaf(lib)
    w.requires_grad = False
    return (w.requires_grad, (w * 2).requires_grad)


def integers_cannot_require_grad(lib):
    lib.tensor([1, 2]).requires_grad_()


def a_frozen_leaf_gets_no_gradient(lib):
    w, v = leaf(lib), leaf(lib).requires_grad_(False)
    (w * v).sum().backward()
    return w.grad, v.grad


def a_grad_of_another_size_is_refused(lib):
    leaf(lib).grad = lib.ones(2)


def a_grad_of_another_dtype_is_refused(lib):
    leaf(lib).grad = lib.ones(3).double()


def a_grad_may_be_assigned(lib):
    w = leaf(lib)
    w.grad = lib.ones(3)
    (w * w).sum().backward()
    return (w.grad,)


def outputs_of_leaves_and_results(lib):
    w = leaf(lib)
    y = w.sort().values
    return w.is_leaf, w.output_nr, y.is_leaf, y.output_nr, w.grad_fn is None


PROGRAMS = [
    found
    for found in tuple(globals().values())
    if getattr(found, "__code__", None)
    and found.__code__.co_varnames[: found.__code__.co_argcount] == ("lib",)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_a_program_agrees_with_pytorch(program):
    assert_parity(program, torch)


# --- what is ours to word -----------------------------------------------------------------------


def test_errors_say_what_to_do():
    w = leaf(gg)
    with pytest.raises(AutogradError, match="scalar outputs, got a tensor of shape \\(3,\\)"):
        (w * 2).backward()
    with pytest.raises(AutogradError, match="does not require grad and does not have a grad_fn"):
        gg.ones(1).backward()
    with pytest.raises(ShapeError, match="grad_output\\[0\\] has a shape of \\(2,\\)"):
        (w * 2).backward(gg.ones(2))
    with pytest.raises(AutogradError, match="at index 1 appears to not have been used"):
        gg.autograd.grad(w.sum(), [w, leaf(gg)])
    with pytest.raises(AutogradError, match="inputs\\[0\\]"):
        gg.autograd.grad(w.sum(), gg.ones(3))
    with pytest.raises(ArgumentError, match="2 tensors but 1 gradients"):
        gg.autograd.backward([w * 2, w * 3], [gg.ones(3)])
    with pytest.raises(ArgumentError, match="allow_unused"):
        gg.autograd.grad(w.sum(), w, allow_unused=False, materialize_grads=True)
    with pytest.raises(ArgumentTypeError, match="Tensors or None, but got float"):
        (w * 2).backward(1.0)
    with pytest.raises(DTypeError, match="floating point dtype"):
        gg.tensor([1]).requires_grad_()


def test_a_second_backward_names_the_remedy():
    w = leaf(gg)
    y = (w * w).sum()
    y.backward()
    with pytest.raises(AutogradError, match="retain_graph=True"):
        y.backward()


def test_a_failed_backward_changes_no_grad():
    w, v = leaf(gg), leaf(gg)
    x = w * 1
    y = x * x
    z = y + v * v
    x.add_(1)
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        z.sum().backward()
    assert w.grad is None
    assert v.grad is None


def test_reading_the_grad_of_a_result_warns():
    y = leaf(gg) * 2
    with pytest.warns(UserWarning, match="retain_grad"):
        assert y.grad is None
    y.retain_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert y.grad is None


def test_grad_assignments_are_checked():
    w = leaf(gg)
    with pytest.raises(RuntimeError, match="own grad"):
        w.grad = w
    with pytest.raises(TypeError, match="expected to be a Tensor or None but got grad of type int"):
        w.grad = 3
    w.grad = None
    assert w.grad is None


def test_the_tape_can_be_read():
    w, v = leaf(gg), leaf(gg)
    y = w * v + w
    assert y.grad_fn.name() == "AddBackward0"
    product, accumulate = (node for node, _ in y.grad_fn.next_functions)
    assert product.name() == "MulBackward0"
    assert accumulate.name() == "AccumulateGrad"
    assert accumulate.variable is w
    (first, _), (second, _) = product.next_functions
    assert first.variable is w
    assert second.variable is v
    assert (w * 2).grad_fn.next_functions[1] == (None, 0)
    assert repr(y.grad_fn) == "<AddBackward0>"


def test_unneeded_parts_are_not_walked():
    w, v = leaf(gg), leaf(gg)
    seen = []
    dear = v.exp()
    dear.grad_fn.register_hook(lambda *grads: seen.append("dear"))
    y = w * dear
    gg.autograd.grad(y.sum(), w, retain_graph=True)
    assert seen == []
    gg.autograd.grad(y.sum(), v)
    assert seen == ["dear"]


def test_an_op_keeps_only_what_its_needed_rules_read():
    w, c = leaf(gg), gg.ones(3)
    assert (w * c).grad_fn.keys == (1,)
    assert (c * w).grad_fn.keys == (0,)
    assert (w * w).grad_fn.keys == (0, 1)
    assert (w + c).grad_fn.keys == ()
    assert w.exp().grad_fn.keys == (~0,)


def test_a_rule_that_reads_what_it_did_not_name_is_found_out():
    node = (leaf(gg) * 2).grad_fn
    with pytest.raises(AssertionError, match="'mul' reads input 0: name it in saves"):
        node.saved_input(0, create=False)


# --- whose array a gradient is ------------------------------------------------------------------


class Twice(gg.autograd.Function):
    """Doubles, and notes where its gradient lies."""

    @staticmethod
    def forward(ctx, x, places):
        ctx.places = places
        return x * 2

    @staticmethod
    def backward(ctx, grad):
        found = grad * 2
        ctx.places.append(found.data_ptr())
        return found, None


def test_the_first_gradient_is_adopted_without_a_copy():
    w, places = leaf(gg), []
    Twice.apply(w, places).sum().backward()
    assert w.grad.data_ptr() == places[0]


def test_a_gradient_that_is_a_view_of_its_own_memory_is_adopted():
    class Reshaped(Twice):
        @staticmethod
        def backward(ctx, grad):
            found = (grad * 2).view(3, 1).view(3)
            ctx.places.append(found.data_ptr())
            return found, None

    w, places = leaf(gg), []
    Reshaped.apply(w, places).sum().backward()
    assert w.grad.data_ptr() == places[0]
    w.grad.mul_(leaf(gg))  # it is nobody's view any more


def test_later_gradients_are_added_in_place():
    w = leaf(gg)
    (w * 2).sum().backward()
    kept = w.grad
    (w * 3).sum().backward()
    assert w.grad is kept
    assert kept.tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    "build",
    [
        lambda a, b: a + b,
        lambda a, b: a.view(3) + b.view(3),
        lambda a, b: (a + b).view(3, 1).view(3),
        lambda a, b: gg.stack([a, b]),
        lambda a, b: gg.cat([a, b]),
        lambda a, b: a.expand(2, 3) + b,
    ],
    ids=["add", "views", "chain", "stack", "cat", "expand"],
)
def test_leaves_never_share_a_gradient(build):
    a, b = leaf(gg), leaf(gg)
    out = build(a, b)
    pushed = gg.ones(out.shape)
    out.backward(pushed)
    before = b.grad.tolist(), pushed.tolist()
    a.grad.mul_(100)
    assert (b.grad.tolist(), pushed.tolist()) == before


def test_a_gradient_that_the_user_gave_is_copied():
    w, g = leaf(gg), gg.ones(3)
    (w + 1).backward(g)
    (w + 1).backward(g)
    assert w.grad.tolist() == [2.0, 2.0, 2.0]
    assert g.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("keep", [lambda g: g, lambda g: g.detach(), lambda g: g.view(3, 1)[1:]])
def test_a_gradient_that_a_hook_kept_is_copied(keep):
    w = leaf(gg)
    kept = []
    w.register_hook(lambda g: kept.append(keep(g)))
    (w * 2).sum().backward()
    before = kept[0].tolist()
    w.grad.zero_()
    assert kept[0].tolist() == before


def test_a_gradient_seen_as_numpy_is_copied():
    w = leaf(gg)
    kept = []
    w.register_hook(lambda g: kept.append(g.numpy()))
    (w * 2).sum().backward()
    w.grad.zero_()
    assert kept[0].tolist() == [2.0, 2.0, 2.0]


def test_a_rule_that_returns_what_it_saved_does_not_give_it_away():
    class First(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x, c):
            ctx.save_for_backward(c)
            return x.sum()

        @staticmethod
        def backward(ctx, grad):
            return ctx.saved_tensors[0], None

    w, c = leaf(gg), gg.ones(3)
    First.apply(w, c).backward()
    w.grad.zero_()
    assert c.tolist() == [1.0, 1.0, 1.0]


def test_retained_gradients_are_copies():
    w = leaf(gg)
    y = w + 1
    y.retain_grad()
    (y * 2).sum().backward()
    y.grad.zero_()
    assert w.grad.tolist() == [2.0, 2.0, 2.0]


def test_gradients_are_contiguous_and_writable():
    a, b = leaf(gg, 3, 1), leaf(gg, 2, 3)
    (a.expand(3, 4).sum() + b.t().sum(1).sum()).backward()
    for x in (a, b):
        assert x.grad.is_contiguous()
        x.grad.add_(1)


def test_a_gradient_with_history_is_not_left_on_a_leaf():
    w, v = leaf(gg), leaf(gg)
    w.register_hook(lambda g: _tracked(g, v))
    (w * 2).sum().backward()
    assert not w.grad.requires_grad


def _tracked(g, v):
    with gg.enable_grad():
        return g * v


def test_backward_works_without_grad_mode():
    w = leaf(gg)
    y = (w * w).sum()
    with gg.no_grad():
        y.backward()
        assert not gg.is_grad_enabled()
    assert w.grad.tolist() == [1.0, 2.0, 3.0]
