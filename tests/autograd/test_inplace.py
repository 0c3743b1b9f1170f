"""In-place writes, views and version counting, against PyTorch."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import ganglion as gg
from tests.autograd.parity import assert_parity

torch = pytest.importorskip("torch")


def leaf(lib, *shape, start=1.0):
    n = int(np.prod(shape or (4,)))
    values = (np.arange(n, dtype=np.float32) / n + start).reshape(shape or (4,))
    return lib.from_numpy(values.copy()).requires_grad_()


def plain(lib, *shape):
    return leaf(lib, *shape).detach().clone()


# --- programs that must give the same gradients, or be refused by both --------------------------


def add_into_a_result(lib):
    w = leaf(lib)
    x = w * 2
    x.add_(w)
    (x * x).sum().backward()
    return x, w.grad


def a_chain(lib):
    w = leaf(lib)
    x = w * 1
    x.mul_(w).add_(1).mul_(w)
    x.sum().backward()
    return x, w.grad


def an_operator(lib):
    w, v = leaf(lib, 2, 3), leaf(lib, 3)
    x = w * 1
    x += v
    x *= v
    x -= 1
    x /= 2
    x.sum().backward()
    return x, w.grad, v.grad


def broadcasting_that_would_grow(lib):
    x = leaf(lib, 3) * 1
    x += leaf(lib, 2, 3)
    return (x,)


def on_itself(lib):
    w = leaf(lib)
    x = w * 1
    x.add_(x)
    x.sum().backward()
    return x, w.grad


def on_a_leaf(lib):
    return (leaf(lib).add_(1),)


def on_a_view_of_a_leaf(lib):
    return (leaf(lib)[:2].add_(1),)


def on_a_leaf_without_grad_mode(lib):
    w = leaf(lib)
    with lib.no_grad():
        w.mul_(3)
        w[:2].add_(1)
    (w * w).sum().backward()
    return w, w.grad, w._version


def on_a_constant(lib):
    w = leaf(lib)
    x = plain(lib)
    x.mul_(w)
    x.sum().backward()
    return x, w.grad, x.is_leaf, x.requires_grad


def after_it_was_saved(lib):
    w = leaf(lib)
    x = w * 1
    y = x * x
    x.add_(1)
    y.sum().backward()
    return (w.grad,)


def after_the_output_was_saved(lib):
    w = leaf(lib)
    y = w.exp()
    y.add_(1)
    y.sum().backward()
    return (w.grad,)


def after_it_was_used_but_not_saved(lib):
    w = leaf(lib)
    x = w * 1
    y = x + 1
    x.mul_(2)
    (y * x).sum().backward()
    return (w.grad,)


def after_only_the_other_factor_was_saved(lib):
    w = leaf(lib)
    x = w * 1
    y, z = x * 2, x * plain(lib)
    u = x / 3
    x.add_(1)
    (y + z + u).sum().backward()
    return (w.grad,)


def after_the_constant_factor_was_saved(lib):
    w, c = leaf(lib), plain(lib)
    y = w * c
    c.add_(1)
    y.sum().backward()
    return (w.grad,)


def matmul_keeps_only_what_its_gradient_reads(lib):
    w, x = leaf(lib, 3, 2), plain(lib, 4, 3)
    y = x @ w
    with lib.no_grad():
        w.add_(1)
    y.sum().backward()
    return (w.grad,)


def matmul_refuses_a_changed_input(lib):
    w, x = leaf(lib, 3, 2), plain(lib, 4, 3)
    y = x @ w
    x.add_(1)
    y.sum().backward()
    return (w.grad,)


def under_no_grad_after_it_was_saved(lib):
    w = leaf(lib)
    y = w * w
    with lib.no_grad():
        w.add_(1)
    y.sum().backward()
    return (w.grad,)


def through_detach_after_it_was_saved(lib):
    w = leaf(lib)
    x = w * 1
    y = x * x
    x.detach().add_(1)
    y.sum().backward()
    return (w.grad,)


def through_data_after_it_was_saved(lib):
    w = leaf(lib)
    x = w * 1
    y = x * x
    x.data.add_(1)
    y.sum().backward()
    return x, w.grad, x._version


def a_view_of_a_result(lib):
    w = leaf(lib)
    x = w * 2
    x[1:3].mul_(w[:2])
    (x * x).sum().backward()
    return x, w.grad


def a_result_with_views(lib):
    w = leaf(lib, 2, 2)
    x = w * 2
    v = x.view(4)
    x.mul_(w)
    (v * v).sum().backward()
    return v, w.grad


def views_of_views(lib):
    w = leaf(lib, 2, 6)
    x = w * 2
    v = x.view(12)[2:10].view(2, 4)
    u = v.transpose(0, 1)[1]
    t = x[1]
    u.mul_(w[0, :2])
    v.add_(1)
    (u.sum() * 2 + (v * v).sum() + (t * t).sum() + x.sum()).backward()
    return x, v, u, t, w.grad


def a_view_that_is_stale(lib):
    w = leaf(lib)
    x = plain(lib)
    v = x[:2]
    x.mul_(w)
    needs = v.requires_grad
    v.sum().backward()
    return v, w.grad, needs


def a_sibling_view(lib):
    w = leaf(lib)
    x = w * 1
    a, b = x[:3], x[1:]
    a.mul_(2)
    (b * b).sum().backward()
    return a, b, w.grad


def a_saved_sibling_view(lib):
    w = leaf(lib)
    x = w * 1
    a, b = x[:3], x[1:]
    y = b * b
    a.mul_(2)
    y.sum().backward()
    return (w.grad,)


def a_view_made_without_grad_mode(lib):
    x = leaf(lib) * 1
    with lib.no_grad():
        v = x[:2]
    return (v.mul_(2),)


def a_view_made_without_grad_mode_of_a_constant(lib):
    x = plain(lib)
    with lib.no_grad():
        v = x[:2]
    v.mul_(2)
    return x, v


def a_view_made_without_grad_mode_gets_a_history(lib):
    x = plain(lib)
    with lib.no_grad():
        v = x[:2]
    return (v.mul_(leaf(lib, 2)),)


def a_detached_tensor(lib):
    w = leaf(lib)
    x = w * 1
    y = x + 1
    d = x.detach()
    d.mul_(w)
    (y + x + d).sum().backward()
    return x, d, w.grad


def a_view_of_a_detached_tensor(lib):
    w = leaf(lib)
    d = (w * 1).detach()
    d[:2].mul_(w[:2])
    d.sum().backward()
    return d, w.grad


def a_transposed_view(lib):
    w = leaf(lib, 2, 3)
    x = w * 2
    x.t().mul_(w.t())
    x.t()[0].add_(w[:, 1])
    (x * x).sum().backward()
    return x, w.grad


def an_expanded_tensor(lib):
    return ((leaf(lib, 1) * 1).expand(4).add_(1),)


def a_tensor_that_was_expanded(lib):
    w = leaf(lib, 1)
    x = w * 1
    e = x.expand(4)
    x.mul_(3)
    (e * e).sum().backward()
    return e, w.grad


def copying_a_leaf(lib):
    w, x = leaf(lib), plain(lib)
    x.copy_(w)
    (x * x).sum().backward()
    return x, w.grad, x.is_leaf


def copying_a_result(lib):
    w, x = leaf(lib), plain(lib)
    y = w * 3
    x.copy_(y)
    seen = []
    x.register_hook(lambda g: seen.append(g.clone()))
    (x * 2 + y * 5).sum().backward()
    return x, w.grad, seen[0]


def copying_a_leaf_into_a_view(lib):
    w, b = leaf(lib, 2), leaf(lib)
    x = b * 2
    x[1:3].copy_(w)
    (x * x).sum().backward()
    return x, w.grad, b.grad


def copying_broadcasts_and_converts(lib):
    w = leaf(lib, 3)
    x = plain(lib, 2, 3).double()
    x.copy_(w)
    (x * x).sum().backward()
    return x, w.grad


def copying_a_constant_over_a_result(lib):
    w = leaf(lib)
    x = w * 2
    x.copy_(plain(lib))
    needs = x.requires_grad
    x.sum().backward()
    return x, w.grad, needs


def zeroing_a_result(lib):
    w = leaf(lib)
    x = w * 2
    x.zero_()
    needs = x.requires_grad
    x.sum().backward()
    return x, w.grad, needs


def filling_part_of_a_result(lib):
    w = leaf(lib)
    x = w * 2
    x[1:3].fill_(7)
    (x * x).sum().backward()
    return x, w.grad


def assigning_items(lib):
    w = leaf(lib, 3, 4)
    x = w * 2
    x[0] = w[1]
    x[:, 1] = 5.0
    x[2, 2:] = w[0, :2] * 3
    x[lib.tensor([0, 1]), lib.tensor([3, 0])] = w[2, :2]
    (x * x).sum().backward()
    return x, w.grad


def assigning_through_a_mask(lib):
    w = leaf(lib, 3, 4)
    x = w * 2
    x[w > 1.5] = 0.5
    (x * x).sum().backward()
    return x, w.grad


def filling_a_preallocated_buffer(lib):
    w = leaf(lib)
    buffer = lib.zeros(3, 4)
    for i in range(3):
        buffer[i] = w * (i + 1)
    (buffer * buffer).sum().backward()
    return buffer, w.grad


def hooks_stay_with_the_value_they_were_set_on(lib):
    w = leaf(lib)
    x = w * 1
    seen = []
    x.register_hook(lambda g: seen.append(g.clone()))
    x.mul_(3)
    x.register_hook(lambda g: seen.append(g.clone()))
    (x * 2).sum().backward()
    return *seen, w.grad


def a_retained_gradient_follows_the_tensor(lib):
    w = leaf(lib)
    x = w * 1
    x.retain_grad()
    x.mul_(3)
    (x * 2).sum().backward()
    return x.grad, w.grad


def a_retained_gradient_of_a_base_follows_it(lib):
    w = leaf(lib)
    x = w * 1
    x.retain_grad()
    x[:2].mul_(3)
    (x * x).sum().backward()
    return x.grad, w.grad


def a_retained_gradient_of_a_view(lib):
    w = leaf(lib)
    x = w * 1
    v = x[:2]
    v.retain_grad()
    x.mul_(3)
    (v * v).sum().backward()
    return v.grad, w.grad


def changing_the_shape_in_place(lib):
    w = leaf(lib, 2, 3)
    x = w * 1
    x.unsqueeze_(0)
    x.mul_(2)
    x.squeeze_(0)
    x.t_()
    x[0].mul_(w[:, 0])
    (x * x).sum().backward()
    return x, w.grad, x.requires_grad


def changing_the_shape_of_a_view_in_place(lib):
    w = leaf(lib, 2, 3)
    x = w * 1
    v = x[:, 1:]
    v.t_()
    v.mul_(2)
    x.add_(1)
    (x * x).sum().backward(retain_graph=True)
    (v * v).sum().backward()
    return x, v, w.grad


def changing_the_shape_of_a_leaf_in_place(lib):
    w = leaf(lib, 2, 3)
    w.t_()
    return (w,)


def detaching_in_place(lib):
    w = leaf(lib)
    x = w * 2
    x.detach_()
    x.add_(1)
    return x, x.requires_grad, x.is_leaf


def detaching_a_view_in_place(lib):
    return ((leaf(lib) * 2)[:2].detach_(),)


def second_order(lib):
    w = leaf(lib)
    x = w * 1
    x[1:3].mul_(w[:2] * w[2:])
    x.mul_(w)
    (g,) = lib.autograd.grad((x * x).sum(), w, create_graph=True)
    (h,) = lib.autograd.grad((g * g).sum(), w)
    return g, h


def a_wider_result_into_a_narrower_tensor(lib):
    w = leaf(lib).detach().double().requires_grad_()
    v = leaf(lib)
    x = v * 2
    x.mul_(w)
    (x * x).sum().backward()
    return x, w.grad, v.grad


def a_float_result_into_an_integer_tensor(lib):
    x = lib.tensor([1, 2])
    return (x.mul_(1.5),)


def optimizer_style_updates(lib):
    w = leaf(lib)
    losses = []
    for _ in range(3):
        loss = (w * w).sum()
        w.grad = None
        loss.backward()
        with lib.no_grad():
            w -= 0.1 * w.grad
        losses.append(loss)
    return w, *losses


def the_data_of_a_leaf_is_replaced(lib):
    w = leaf(lib)
    w.data = w.data * 2
    w.data[0] = 9.0
    (w * w).sum().backward()
    return w, w.grad, w.is_leaf, w._version


def a_reduction_of_what_is_then_overwritten(lib):
    w = leaf(lib, 2, 3)
    x = w * 1
    s = x.sum(0)
    x.zero_()
    (s * s).sum().backward()
    return s, w.grad


def a_slice_written_many_times(lib):
    w = leaf(lib)
    x = w * 1
    for i in range(1, 4):
        x[i] = x[i - 1] * w[i]
    x[3].backward()
    return x, w.grad


def a_leaf_view_of_a_constant(lib):
    b = plain(lib)
    v = b[:2].requires_grad_()
    (v * v).sum().backward()
    return v.grad, v.is_leaf


PROGRAMS = [
    found
    for found in tuple(globals().values())
    if getattr(found, "__code__", None)
    and found.__code__.co_varnames[: found.__code__.co_argcount] == ("lib",)
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_a_program_agrees_with_pytorch(program):
    assert_parity(program, torch)


def test_hooks_on_a_stale_view_see_its_present_history():
    """PyTorch 2.13 crashes here."""
    w = gg.ones(3, requires_grad=True)
    x = w * 1
    v = x[:2]
    x.mul_(3)
    seen = []
    v.register_hook(lambda g: seen.append(g.tolist()))
    v.retain_grad()
    (v * v).sum().backward()
    assert seen == [[6.0, 6.0]]
    assert v.grad.tolist() == [6.0, 6.0]
    assert w.grad.tolist() == [18.0, 18.0, 0.0]


def test_a_value_may_overlap_its_target():
    w = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x = w * 1
    x[1:] = x[:2] + x[1:]
    x.add_(x[2])
    x.sum().backward()
    assert x.tolist() == [6.0, 8.0, 10.0]
    assert w.grad.tolist() == [2.0, 5.0, 4.0]


# --- random programs ----------------------------------------------------------------------------


def _fits(value, target):
    """Whether a value of this shape broadcasts into the target's."""
    try:
        return np.broadcast_shapes(value, target) == target
    except ValueError:
        return False


def _views(x):
    """Ways to look into a tensor, by number."""
    return [
        lambda: x[0],
        lambda: x[1:],
        lambda: x[:, 0],
        lambda: x[..., ::2],
        lambda: x.transpose(0, 1),
        lambda: x.reshape(-1),
        lambda: x.unsqueeze(0),
    ]


class Machine:
    """Runs instructions, numbers only, on a pool of tensors of either library."""

    def __init__(self, lib, first):
        self.lib = lib
        self.leaves = [lib.from_numpy(a.copy()).requires_grad_() for a in first]
        constant = lib.from_numpy(np.linspace(0.4, 0.9, 6).reshape(2, 3))
        self.pool = [x * 1 for x in self.leaves] + [constant]

    def run(self, instructions):
        for kind, i, j, k in instructions:
            x, y = self.pool[i % len(self.pool)], self.pool[j % len(self.pool)]
            self.KINDS[kind](self, x, y, k)

    def look(self, x, y, k):
        ways = _views(x)
        way = ways[k % len(ways)]
        needs = {0: 1, 1: 1, 2: 2, 3: 1, 4: 2}.get(k % len(ways), 0)
        if len(x.shape) >= needs and 0 not in x.shape:
            self.pool.append(way())

    def compute(self, x, y, k):
        if k % 3 == 0 and tuple(x.shape) == tuple(y.shape):
            self.pool.append(x * y)
        elif k % 3 == 1 and tuple(x.shape) == tuple(y.shape):
            self.pool.append(x + y)
        else:
            self.pool.append((x * 0.7).sin() if k % 2 else x * 0.9)

    def detach(self, x, y, k):
        self.pool.append(x.detach())

    def overwrite(self, x, y, k):
        if not _fits(tuple(y.shape), tuple(x.shape)) or x is y:
            return
        y = y.clone()  # PyTorch computes in place: what overlaps is refused, or wrong
        [
            lambda: x.add_(y),
            lambda: x.mul_(y),
            lambda: x.copy_(y),
            lambda: x.__setitem__(..., y),
        ][k % 4]()

    def overwrite_with_number(self, x, y, k):
        [lambda: x.mul_(0.8), lambda: x.add_(1.5), x.zero_, lambda: x.fill_(0.3)][k % 4]()

    def overwrite_without_grad(self, x, y, k):
        with self.lib.no_grad():
            self.overwrite_with_number(x, y, k)

    KINDS = (
        look, look, compute, compute, overwrite, overwrite, overwrite_with_number, detach,
        overwrite_without_grad,
    )  # fmt: skip
    SMOOTH = (0, 1, 2, 3, 4, 5, 6)  # kinds after which finite differences are gradients

    def loss(self):
        total = self.lib.from_numpy(np.zeros(()))
        for n, x in enumerate(self.pool):
            total = total + (x * x).sum() * (0.3 + 0.1 * n)
        return total


def _run(lib, first, instructions):
    machine = Machine(lib, first)
    machine.run(instructions)
    loss = machine.loss()
    loss.backward()
    return [x.detach().numpy().copy() for x in machine.pool], [x.grad for x in machine.leaves]


def _loss(first, instructions):
    machine = Machine(gg, first)
    machine.run(instructions)
    return machine.loss().item()


def _differences(first, instructions):
    for n, a in enumerate(first):
        out = np.zeros_like(a)
        for place in np.ndindex(a.shape):
            moved = [b.copy() for b in first]
            moved[n][place] += 1e-6
            above = _loss(moved, instructions)
            moved[n][place] -= 2e-6
            out[place] = (above - _loss(moved, instructions)) / 2e-6
        yield out


NUMBER = st.integers(0, 30)
STEP = st.tuples(st.integers(0, len(Machine.KINDS) - 1), NUMBER, NUMBER, NUMBER)


@given(st.lists(STEP, min_size=2, max_size=12))
def test_random_programs_agree_with_pytorch(instructions):
    """Values and gradients are equal, and what PyTorch refuses is refused, or else exact."""
    first = [np.linspace(0.2, 1.1, 6).reshape(2, 3), np.linspace(-0.7, 0.9, 6).reshape(2, 3)]
    try:
        values, grads = _run(torch, first, instructions)
    except RuntimeError:
        _check_refused(first, instructions)
        return
    found_values, found = _run(gg, first, instructions)
    for mine, reference in zip(found_values, values, strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-12)
    for mine, reference in zip(found, grads, strict=True):
        np.testing.assert_allclose(mine.numpy(), reference.numpy(), rtol=1e-10, atol=1e-10)


def _check_refused(first, instructions):
    """Ours may go on: it computes a value before it stores it, so the two may overlap."""
    try:
        _, found = _run(gg, first, instructions)
    except RuntimeError:
        return
    if all(kind in Machine.SMOOTH for kind, *_ in instructions):
        for mine, expected in zip(found, _differences(first, instructions), strict=True):
            np.testing.assert_allclose(mine.numpy(), expected, rtol=1e-5, atol=1e-6)
