"""Hooks on tensors and nodes."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentTypeError, AutogradError, DTypeError, ShapeError
from tests.autograd.parity import assert_parity

torch = pytest.importorskip("torch")


def leaf(lib):
    return lib.from_numpy(np.array([1.0, 2.0, 3.0], np.float32)).requires_grad_()


def noted(seen, tag, change=None):
    """A hook that notes its gradient and may replace it."""

    def hook(grad):
        seen.append(np.append(grad.detach().numpy().copy(), tag))
        return None if change is None else change(grad)

    return hook


def a_leaf_hook_sees_the_total_once(lib):
    w, seen = leaf(lib), []
    w.register_hook(noted(seen, 1))
    (w * w + w * 3).sum().backward()
    return *seen, len(seen), w.grad


def hooks_run_in_order_and_replace(lib):
    w, seen = leaf(lib), []
    y = w * 2
    y.register_hook(noted(seen, 1, lambda g: g * 2))
    y.register_hook(noted(seen, 2))
    y.register_hook(noted(seen, 3, lambda g: g + 1))
    w.register_hook(noted(seen, 4, lambda g: g * 10))
    w.register_hook(noted(seen, 5))
    y.sum().backward()
    return *seen, w.grad


def a_removed_hook_is_silent(lib):
    w, seen = leaf(lib), []
    handles = [x.register_hook(noted(seen, 1)) for x in (w, w)]
    handles[0].remove()
    handles[0].remove()
    y = w * 2
    with y.register_hook(noted(seen, 2)):
        pass
    y.sum().backward()
    return *seen, len(seen)


def a_hook_that_removes_itself(lib):
    w, seen = leaf(lib), []

    def once(grad):
        seen.append(1)
        handle.remove()

    handle = w.register_hook(once)
    for _ in range(2):
        (w * 2).sum().backward()
    return (len(seen),)


def hooks_fire_under_grad_too(lib):
    w, seen = leaf(lib), []
    w.register_hook(noted(seen, 1, lambda g: g * 2))
    (found,) = lib.autograd.grad((w * 3).sum(), w)
    return found, *seen, w.grad


def a_hook_on_the_only_wanted_inner_value(lib):
    w, seen = leaf(lib), []
    y = w * 2
    y.register_hook(noted(seen, 1, lambda g: g * 5))
    return lib.autograd.grad((y * 3).sum(), y)


def retained_gradients_are_seen_after_hooks(lib):
    w = leaf(lib)
    y = w * 2
    y.retain_grad()
    y.register_hook(lambda g: g * 10)
    kept = y.retains_grad
    (y * 3).sum().backward()
    return y.grad, w.grad, kept, w.retains_grad


def retained_gradients_accumulate(lib):
    w = leaf(lib)
    y = w * 2
    y.retain_grad()
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    return (y.grad,)


def retaining_on_a_leaf_changes_nothing(lib):
    w = leaf(lib)
    w.retain_grad()
    (w * 2).sum().backward()
    return (w.grad,)


def post_accumulate_hooks_see_the_sum(lib):
    w, seen = leaf(lib), []
    w.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    w.register_hook(lambda g: g * 2)
    for _ in range(2):
        (w * 2 + w).sum().backward()
    return *seen, len(seen)


def an_optimizer_in_the_backward_pass(lib):
    w, v = leaf(lib), leaf(lib)

    def update(p):
        with lib.no_grad():
            p -= 0.1 * p.grad
        p.grad = None

    for p in (w, v):
        p.register_post_accumulate_grad_hook(update)
    for _ in range(3):
        (w * v * w).sum().backward()
    return w, v, w.grad


def node_hooks_see_both_sides(lib):
    w, seen = leaf(lib), []
    y = w * 2
    y.grad_fn.register_prehook(lambda outs: seen.append(outs[0].clone()))
    y.grad_fn.register_hook(lambda ins, outs: seen.extend((ins[0].clone(), outs[0].clone())))
    (y * 3).sum().backward()
    return seen


def node_hooks_replace(lib):
    w = leaf(lib)
    y = w * 2
    y.grad_fn.register_prehook(lambda outs: (outs[0] * 5,))
    y.grad_fn.register_hook(lambda ins, outs: (ins[0] + 1, None))
    (y * 3).sum().backward()
    return (w.grad,)


def hooks_take_part_in_second_order(lib):
    w = leaf(lib)
    y = w * w
    y.register_hook(lambda g: g * y)
    (g,) = lib.autograd.grad(y.sum(), w, create_graph=True)
    return g, *lib.autograd.grad(g.sum(), w)


def a_hook_needs_a_gradient(lib):
    lib.ones(3).register_hook(lambda g: g)


def a_post_accumulate_hook_needs_a_leaf(lib):
    (leaf(lib) * 2).register_post_accumulate_grad_hook(lambda p: None)


def retaining_needs_a_gradient(lib):
    lib.ones(3).retain_grad()


def hooks_on_one_of_several_outputs(lib):
    w, seen = leaf(lib), []
    a, _, c = w.unbind(0)
    a.register_hook(noted(seen, 1, lambda g: g * 2))
    (a * 3 + c).backward()
    return *seen, w.grad


PROGRAMS = [
    found
    for found in tuple(globals().values())
    if getattr(found, "__code__", None)
    and found.__code__.co_varnames[: found.__code__.co_argcount] == ("lib",)
    and found is not leaf
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_a_program_agrees_with_pytorch(program):
    assert_parity(program, torch)


@pytest.mark.parametrize(
    ("hook", "error", "message"),
    [
        (lambda g: 3, ArgumentTypeError, "must return a tensor or None, but returned int"),
        (lambda g: g[:2], ShapeError, r"got \(3,\) and returned \(2,\)"),
        (lambda g: g.double(), DTypeError, "got float32 and returned float64"),
    ],
)
def test_what_a_hook_returns_is_checked(hook, error, message):
    for x in (w := leaf(gg), w * 2):
        x.register_hook(hook)
        with pytest.raises(error, match=message):
            (x * 2).sum().backward()


def test_a_hook_that_raises_leaves_grad_mode_and_grads_alone():
    w, v = leaf(gg), leaf(gg)
    y = w * v

    def broken(grad):
        raise ValueError("no")

    y.register_hook(broken)
    with pytest.raises(ValueError, match="no"):
        (y + v).sum().backward()
    assert gg.is_grad_enabled()
    assert v.grad is None


def test_hooks_after_a_walk_do_not_fire_for_it():
    w, seen = leaf(gg), []
    (w * 2).sum().backward()
    w.register_hook(seen.append)
    assert seen == []


def test_an_inner_hook_may_start_another_walk():
    w, v, seen = leaf(gg), leaf(gg), []
    y = w * 2

    def inner(grad):
        with gg.enable_grad():
            (found,) = gg.autograd.grad((v * v).sum(), v)
        seen.append(found.tolist())

    y.register_hook(inner)
    y.sum().backward()
    assert seen == [[2.0, 4.0, 6.0]]
    assert w.grad.tolist() == [2.0, 2.0, 2.0]


def test_registering_says_what_is_wrong():
    with pytest.raises(AutogradError, match="use register_hook"):
        (leaf(gg) * 2).register_post_accumulate_grad_hook(lambda p: None)
