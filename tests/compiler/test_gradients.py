"""Gradients in and around compiled functions: delivered, added up, used up, and flowing back."""

import copy

import pytest

import ganglion as gg
from ganglion import nn
from ganglion.errors import AutogradError, TraceError
from tests.compiler.twins import assert_same, batches, bits, compare, network

pytestmark = pytest.mark.usefixtures("interpreted")


def stepping(zero=True, **options):
    model = network(0.0)
    opt = gg.optim.SGD(model.parameters(), lr=0.1)

    def step(x, y):
        if zero:
            opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return model, opt, gg.compile(step, **options)


# --- used up --------------------------------------------------------------------------------------


def test_gradients_that_an_optimizer_used_are_gone_and_say_so():
    model, opt, step = stepping()
    step(*batches()[0])
    p = next(model.parameters())
    with pytest.raises(AutogradError, match="keep_grads=True"):
        p.grad  # noqa: B018
    with pytest.raises(AutogradError, match="keep_grads=True"):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(AutogradError, match="keep_grads=True"):
        opt.step()
    with pytest.raises(AutogradError, match="zero_grad"):
        model(batches()[0][0]).sum().backward()
    opt.zero_grad()
    assert p.grad is None
    model(batches()[0][0]).sum().backward()
    assert p.grad is not None
    step(*batches()[1])
    assert len(step.specialisations) == 1


def test_zero_grad_makes_zeros_where_asked():
    model, _, step = stepping()
    step(*batches()[0])
    model.zero_grad(set_to_none=False)
    assert all(not p.grad.any() for p in model.parameters())


def test_keep_grads_stores_them():
    model, _, step = stepping(keep_grads=True)
    eager = copy.deepcopy(model)
    x, y = batches()[0]
    step(x, y)
    nn.functional.cross_entropy(eager(x), y).backward()
    for p, q in zip(model.parameters(), eager.parameters(), strict=True):
        assert_same(bits(p.grad), bits(q.grad))


def test_zeroing_outside_is_the_same():
    model, opt, step = stepping(zero=False)
    twin, twin_opt, _ = stepping(zero=False)
    twin.load_state_dict(model.state_dict())
    for x, y in batches((8, 8, 8)):
        opt.zero_grad()
        step(x, y)
        twin_opt.zero_grad()
        nn.functional.cross_entropy(twin(x), y).backward()
        twin_opt.step()
    assert_same(bits(model.state_dict()), bits(twin.state_dict()))
    assert len(step.specialisations) == 1


def test_forgetting_to_zero_outside_is_an_error():
    _, _, step = stepping(zero=False)
    step(*batches()[0])
    with pytest.raises(AutogradError, match="zero_grad"):
        step(*batches()[0])


def test_a_model_whose_gradients_are_gone_can_be_copied_and_converted():
    model, _, step = stepping()
    step(*batches()[0])
    other = copy.deepcopy(model)
    with pytest.raises(AutogradError):
        next(other.parameters()).grad  # noqa: B018
    other.double()
    other.zero_grad()


def test_gradients_that_were_there_are_added_to_and_kept():
    model, _, step = stepping(zero=False)
    x, y = batches()[0]
    twin = copy.deepcopy(model)
    for m in (model, twin):
        nn.functional.cross_entropy(m(x), y).backward()
    step(x, y)
    nn.functional.cross_entropy(twin(x), y).backward()
    gg.optim.SGD(twin.parameters(), lr=0.1).step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert_same(bits(p), bits(q))
        assert_same(bits(p.grad), bits(q.grad))


def test_zeros_instead_of_none():
    def make():
        model = network(0.0)
        opt = gg.optim.Adam(model.parameters())

        def step(x, y):
            opt.zero_grad(set_to_none=False)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return step, model.state_dict, None

    compare(make, batches((8,) * 5))


def test_only_the_gradients_that_an_optimizer_used_are_gone():
    one, two = nn.Linear(12, 5), nn.Linear(12, 5)
    opt = gg.optim.SGD(one.parameters(), lr=0.1)

    @gg.compile
    def step(x, y):
        opt.zero_grad()
        two.zero_grad()
        nn.functional.cross_entropy(one(x) + two(x), y).backward()
        opt.step()

    step(*batches()[0])
    assert two.weight.grad.shape == (5, 12)
    with pytest.raises(AutogradError):
        one.weight.grad  # noqa: B018


# --- of arguments ---------------------------------------------------------------------------------


def test_gradients_of_arguments_arrive_at_the_callers_tensors():
    @gg.compile
    def f(x, y):
        (x * y).sum().backward()

    x, y = gg.ones(3, requires_grad=True), gg.arange(3.0)
    f(x, y)
    assert x.grad.tolist() == [0, 1, 2]
    f(x, y)
    assert x.grad.tolist() == [0, 2, 4]
    z = gg.ones(3, requires_grad=True)
    f(z, z)
    assert z.grad.tolist() == [2, 2, 2]


def test_backward_through_an_argument_computed_outside_is_refused():
    f = gg.compile(lambda x: x.sum().backward())
    w = gg.ones(3, requires_grad=True)
    with pytest.raises(TraceError, match="computed outside"):
        f(w * 2)
    assert w.grad is None


def test_a_captured_tensor_with_a_history_is_refused():
    w = gg.ones(3, requires_grad=True)
    h = w * 2
    f = gg.compile(lambda x: (x * h).sum())
    with pytest.raises(TraceError, match="Pass it as an argument"):
        f(gg.ones(3))
    with gg.no_grad():
        assert f(gg.ones(3)).item() == 6


# --- through a compiled function ------------------------------------------------------------------


def test_a_compiled_model_trains_with_backward_outside():
    def train(wrap):
        gg.manual_seed(0)
        model = network()
        call = wrap(model)
        opt = gg.optim.Adam(model.parameters())
        losses = []
        for x, y in batches((8, 8, 8, 5)):
            loss = nn.functional.cross_entropy(call(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses, bits(model.state_dict())

    eager, compiled = train(lambda m: m), train(gg.compile)
    assert eager[0] == compiled[0]
    assert_same(eager[1], compiled[1])


def test_gradients_flow_to_arguments_and_parameters():
    w = gg.tensor([2.0, 3.0], requires_grad=True)
    f = gg.compile(lambda x, k: (x * w * k, (x + w).sum()))
    a = gg.ones(2, requires_grad=True)
    x = a * 5
    product, total = f(x, 2)
    assert product.grad_fn is not None
    (product.sum() + 10 * total).backward()
    assert w.grad.tolist() == [20, 20]
    assert a.grad.tolist() == [70, 80]
    product, _ = f(x.detach(), 2)
    product.sum().backward()
    assert w.grad.tolist() == [30, 30]


def test_what_was_saved_is_watched_for_writes():
    w = gg.tensor([2.0], requires_grad=True)
    f = gg.compile(lambda x: (x * w).exp())
    x = gg.ones(1, requires_grad=True)
    out = f(x)
    with gg.no_grad():
        w.add_(1)
    f(x).backward()
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        out.backward()


def test_a_second_backward_needs_retain_graph():
    w = gg.tensor([2.0], requires_grad=True)
    f = gg.compile(lambda x: (x * w).exp())
    out = f(gg.ones(1))
    out.backward(retain_graph=True)
    out.backward()
    with pytest.raises(AutogradError, match="second time"):
        out.backward()
    once = w.grad.item() / 2
    w.grad = None
    (gg.ones(1) * w).exp().backward()
    assert w.grad.item() == once


def test_results_whose_graph_was_used_inside_say_so():
    w = gg.tensor([2.0], requires_grad=True)

    @gg.compile
    def step(x):
        w.grad = None
        out = (x * w).exp()
        out.sum().backward()
        return out

    out = step(gg.ones(1))
    assert out.requires_grad
    with pytest.raises(AutogradError, match="second time"):
        out.sum().backward()


def test_differentiating_twice_through_a_compiled_function_is_refused():
    f = gg.compile(lambda x: x * x)
    x = gg.ones(1, requires_grad=True)
    with pytest.raises(AutogradError, match="cannot be differentiated twice"):
        gg.autograd.grad(f(x), x, create_graph=True)


def test_dropout_and_buffers_in_a_differentiated_forward():
    def make():
        layer, running = nn.Linear(12, 5), gg.zeros(5)
        opt = gg.optim.SGD(layer.parameters(), lr=0.1)
        inner = [None]

        def forward(x):
            out = layer(nn.functional.dropout(x, 0.5)) * gg.rand(5)
            with gg.no_grad():
                running.mul_(0.9).add_(out.mean(0), alpha=0.1)
            return out * (1 + running.detach())

        def step(x, y):
            if inner[0] is None:
                inner[0] = gg.compile(forward) if make.compiled else forward
            opt.zero_grad()
            loss = nn.functional.cross_entropy(inner[0](x), y)
            loss.backward()
            opt.step()
            return loss

        return step, lambda: [layer.state_dict(), running]

    found = []
    for make.compiled in (False, True):
        gg.manual_seed(0)
        step, state = make()
        found.append([bits([step(x, y), state()]) for x, y in batches((8, 8, 8))])
        found[-1] = [[a.copy() if hasattr(a, "copy") else a for a in each] for each in found[-1]]
    assert_same(found[0], found[1])


def test_hooks_outside_are_called_once():
    w = gg.ones(2, requires_grad=True)
    calls = []
    w.register_hook(lambda g: calls.append(1))
    f = gg.compile(lambda x: x * w)
    f(gg.ones(2)).sum().backward()
    assert calls == [1]
    assert w.grad.tolist() == [1, 1]


def test_inference_under_no_grad_saves_nothing():
    w = gg.ones(2, requires_grad=True)
    f = gg.compile(lambda x: (x * w).exp())
    with gg.no_grad():
        f(gg.ones(2))
    f(gg.ones(2))
    graphs = [len(s.program.graph.outputs) for s in f.specialisations]
    assert graphs == [1, 1]  # the gradient of exp needs what it returns, and the argument


def test_versions_of_written_tensors_advance():
    w = gg.ones(2)
    f = gg.compile(lambda x: w.add_(x) + 0)
    before = w._version
    f(gg.ones(2))
    assert w._version == before + 1
    f(gg.ones(2))
    assert w._version == before + 2


def test_requires_grad_switched_inside():
    layer = nn.Linear(2, 1)

    @gg.compile
    def freeze(x):
        layer.weight.requires_grad_(False)
        return layer(x)

    freeze(gg.ones(1, 2))
    assert not layer.weight.requires_grad
    layer.weight.requires_grad_(True)
    freeze(gg.ones(1, 2))
    assert not layer.weight.requires_grad
