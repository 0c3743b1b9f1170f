"""The tape's memory: deep and wide graphs, no cycles, no leaks, threads."""

import gc
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

import ganglion as gg


@pytest.fixture
def no_collector():
    """Whatever dies in the test dies by reference counts alone."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(*shape):
    return gg.ones(*(shape or (3,))).requires_grad_()


# --- size ---------------------------------------------------------------------------------------


def chain(x, depth):
    for _ in range(depth):
        x = x * 1.0 + 0.0
    return x


def test_deep_graphs_need_no_recursion():
    w = leaf()
    chain(w, 10_000).sum().backward()
    assert w.grad.tolist() == [1.0, 1.0, 1.0]


def test_deep_graphs_of_gradients_need_no_recursion():
    w = leaf()
    y = chain(w * w, 1_000)
    (g,) = gg.autograd.grad(y.sum(), w, create_graph=True)
    (h,) = gg.autograd.grad(g.sum(), w)
    assert h.tolist() == [2.0, 2.0, 2.0]


def test_deep_graphs_die_without_recursion():
    y = chain(leaf(), 20_000)
    last = weakref.ref(y.grad_fn)
    del y
    assert last() is None


def test_deep_views_and_writes_need_no_recursion():
    w = leaf()
    x = w * 1
    for _ in range(2_000):
        x[:2].mul_(1.0)
    x.sum().backward()
    assert w.grad.tolist() == [1.0, 1.0, 1.0]


def test_wide_sums_are_accumulated():
    w = leaf()
    parts = [w * 1.0 for _ in range(2_000)]
    gg.autograd.backward(parts, [gg.ones(3)] * 2_000)
    assert w.grad.tolist() == [2000.0, 2000.0, 2000.0]


@pytest.mark.full
def test_very_wide_sums_are_accumulated():
    w = leaf()
    parts = [w * 1.0 for _ in range(100_000)]
    gg.autograd.backward(parts, [gg.ones(3)] * 100_000)
    assert w.grad.tolist() == [100_000.0] * 3


# --- lifetimes ----------------------------------------------------------------------------------


def with_hooks(w):
    y = w.exp()
    y.register_hook(lambda g: g * 2)
    y.retain_grad()
    y.grad_fn.register_hook(lambda *grads: None)
    w.register_hook(lambda g: None)
    return y.sum()


def with_in_place(w):
    x = w * 1
    x[:2].mul_(w[1:])
    x += w
    return x.relu_().sum()


class Square(gg.autograd.Function):
    """Saves its input and its output."""

    @staticmethod
    def forward(ctx, x):
        out = x * x
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, _ = ctx.saved_tensors
        return 2 * x * grad


def with_function(w):
    return Square.apply(w).sum()


def with_second_order(w):
    (g,) = gg.autograd.grad((w * w * w).sum(), w, create_graph=True)
    return (g * g).sum()


def plain(w):
    return ((w * w).exp() / (w + 2)).sum()


BUILDS = [plain, with_hooks, with_in_place, with_function, with_second_order]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("walked", [True, False])
def test_a_tape_dies_with_its_last_tensor(build, walked):
    w = leaf()
    loss = build(w)
    nodes = [weakref.ref(node) for node in reachable(loss.grad_fn)]
    assert len(nodes) >= 2
    if walked:
        loss.backward()
    del loss
    assert [node() for node in nodes if node() is not None] == []


def reachable(node):
    found, stack = set(), [node]
    while stack:
        top = stack.pop()
        if top not in found:
            found.add(top)
            stack += [e[0] for e in top.edges if isinstance(e, tuple)]
    return found


@pytest.mark.usefixtures("no_collector")
def test_backward_frees_what_was_saved_and_keeps_the_graph():
    w = leaf()
    y = w.exp()
    saved = weakref.ref(y._data)
    z = y * y
    del y
    assert saved() is not None
    z.sum().backward()
    assert saved() is None
    assert z.grad_fn.next_functions[0][0].name() == "ExpBackward0"


@pytest.mark.usefixtures("no_collector")
def test_gradients_of_inner_values_are_freed_as_the_walk_goes():
    seen = []
    w = leaf()
    x = w * 2
    y = x * 3
    y.register_hook(lambda g: seen.append(weakref.ref(g)))
    x.register_hook(lambda g: seen.append(seen[0]() is None))
    y.sum().backward()
    assert seen[1] is True


@pytest.mark.usefixtures("no_collector")
def test_detached_tensors_do_not_keep_the_tape_alive():
    w = leaf()
    y = w * w
    kept = [y.detach(), y.view(3, 1).detach(), y[:2].detach()[0], y.data]
    node = weakref.ref(y.grad_fn)
    del y
    assert node() is None
    assert [x.sum().item() for x in kept] == [3.0, 3.0, 1.0, 3.0]


@pytest.mark.usefixtures("no_collector")
def test_deep_chains_of_functions_die_without_recursion():
    y = leaf()
    for _ in range(5_000):
        y = Square.apply(y)
    last = weakref.ref(y.grad_fn)
    del y
    assert last() is None


def train_step(w, v, x, target):
    out = (x @ w).relu() @ v
    loss = ((out - target) * (out - target)).mean()
    loss.backward()
    with gg.no_grad():
        for p in (w, v):
            p -= 0.01 * p.grad
            p.grad = None
    return loss.item()


@pytest.mark.usefixtures("no_collector")
def test_memory_stays_flat_over_a_thousand_steps():
    w, v = leaf(8, 16), leaf(16, 2)
    x, target = gg.ones(4, 8), gg.zeros(4, 2)
    tracemalloc.start()
    try:
        for _ in range(1_000):  # until NumPy's caches of small blocks are full
            train_step(w, v, x, target)
        start = tracemalloc.get_traced_memory()[0]
        for _ in range(1_000):
            train_step(w, v, x, target)
        grown = tracemalloc.get_traced_memory()[0] - start
    finally:
        tracemalloc.stop()
    assert grown < 20_000  # one object a step would be at least 48,000


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("build", BUILDS)
def test_no_objects_pile_up(build):
    w = leaf()

    def step():
        build(w).backward()
        w.grad = None
        w._hooks = None

    for _ in range(5):
        step()
    before = len(gc.get_objects())
    for _ in range(50):
        step()
    assert len(gc.get_objects()) - before < 25


# --- threads ------------------------------------------------------------------------------------


def in_threads(*jobs):
    errors = []

    def run(job):
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert errors == []


def test_threads_walk_their_own_graphs():
    leaves = [gg.full((50,), float(i + 1)).requires_grad_() for i in range(4)]

    def job(w):
        def work():
            for _ in range(30):
                w.grad = None
                chain(w * w, 20).sum().backward()
            np.testing.assert_allclose(w.grad.numpy(), 2 * w.detach().numpy())

        return work

    in_threads(*map(job, leaves))


def test_threads_add_into_one_leaf_without_losing_any():
    w = leaf()

    def work():
        for _ in range(200):
            (w * 1.0).sum().backward()

    in_threads(work, work, work)
    assert w.grad.tolist() == [600.0, 600.0, 600.0]
