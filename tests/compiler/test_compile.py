"""Compiled steps do what the same Python does eagerly: bit for bit, from the first call."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.errors import ArgumentError, ArgumentTypeError
from tests.compiler.twins import assert_same, batches, bits, compare, network, training

pytestmark = pytest.mark.usefixtures("interpreted")

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adagrad", {"lr_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adam", {"weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "betas": (0.8, 0.9)}),
    ("AdamW", {}),
]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_training_from_a_fresh_optimizer_has_the_bits_of_eager_training(name, options):
    step = compare(training(name, clip=1.0, **options), batches())
    assert len(step.specialisations) == 2, step.explain()


def test_a_schedule_that_changes_the_rate_every_step_needs_no_new_trace():
    step = compare(training("AdamW"), batches((8,) * 12))
    assert [s.calls for s in step.specialisations] == [12]


def test_an_odd_last_batch_gets_its_own_trace_with_the_reason():
    step = compare(training(), batches((8, 8, 5, 8, 5)))
    assert [s.calls for s in step.specialisations] == [2, 3]
    assert "argument x: shape (8, 12) -> (5, 12)" in step.explain()


def test_several_losses_and_gradient_accumulation():
    def make():
        model = network(0.0)
        opt = gg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(parts):
            opt.zero_grad()
            losses = []
            for x, y in parts:
                out = model(x)
                loss = nn.functional.cross_entropy(out, y) / len(parts)
                loss.backward()
                penalty = 0.01 * out.square().mean()
                losses.append({"loss": loss, "out": out.detach()})
            penalty.backward() if penalty.requires_grad and len(parts) > 5 else None
            opt.step()
            return losses

        return step, model.state_dict, None

    pairs = batches((4, 4, 4, 4, 4, 4))
    step = compare(make, [(pairs[:2],), (pairs[2:4],), (pairs[4:],)])
    assert len(step.specialisations) == 1


def test_gradients_that_are_not_zeroed_inside_add_up_across_calls():
    def make():
        model = network(0.0)
        opt = gg.optim.SGD(model.parameters(), lr=0.1)

        def accumulate(x, y):
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        def between(i):
            if i % 3 == 2:
                opt.step()
                opt.zero_grad()

        return (
            accumulate,
            lambda: [[p.grad for p in model.parameters()], model.state_dict()],
            between,
        )

    step = compare(make, batches((8,) * 9))
    assert len(step.specialisations) == 2  # without and with gradients there
    assert [s.calls for s in step.specialisations] == [6, 3]


def test_inference_functions():
    model = network()

    @gg.compile
    def predict(x):
        with gg.no_grad():
            return model(x).softmax(1)

    model.eval()
    x, _ = batches()[0]
    want = model(x).softmax(1)
    got = predict(x)
    assert_same(bits(want), bits(got))
    assert not got.requires_grad
    with gg.inference_mode():
        inside = predict(x)
    assert inside.is_inference()
    assert len(predict.specialisations) == 2


def test_second_order_a_maml_step():
    def make():
        model = nn.Linear(3, 1)
        opt = gg.optim.Adam(model.parameters(), lr=0.01)

        def step(support, query):
            opt.zero_grad()
            (x, y), (u, v) = support, query
            loss = (model(x) - y).square().mean()
            slow = list(model.parameters())
            grads = gg.autograd.grad(loss, slow, create_graph=True)
            weight, bias = [p - 0.1 * g for p, g in zip(slow, grads, strict=True)]
            outer = (nn.functional.linear(u, weight, bias) - v).square().mean()
            outer.backward()
            opt.step()
            return outer

        return step, model.state_dict, None

    gg.manual_seed(2)
    tasks = [((gg.randn(4, 3), gg.randn(4, 1)), (gg.randn(4, 3), gg.randn(4, 1))) for _ in range(4)]
    step = compare(make, tasks)
    assert len(step.specialisations) == 1


def test_custom_functions_written_in_ops():
    class Cube(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return 3 * x * x * grad

    def make():
        w = gg.randn(4, requires_grad=True)

        def step(x):
            w.grad = None
            loss = Cube.apply(w * x).sum()
            loss.backward()
            return loss

        return step, lambda: [w, w.grad], None

    gg.manual_seed(3)
    compare(make, [(gg.randn(4),) for _ in range(3)])


def test_random_numbers_are_drawn_once_per_call():
    def make():
        def step(x):
            return x * gg.rand(4) + gg.randn(4), gg.randperm(4)

        return step, gg.get_rng_state, None

    compare(make, [(gg.ones(4),)] * 4)


def test_a_generator_of_ones_own_is_state():
    def make():
        generator = gg.Generator()
        generator.manual_seed(5)
        return (lambda: gg.rand(3, generator=generator)), (lambda: generator.state), None

    compare(make, [()] * 3)


class Pair(NamedTuple):
    first: gg.Tensor
    second: list


@dataclasses.dataclass
class Result:
    values: gg.Tensor
    parts: list


def test_nested_structures_come_back_as_they_were():
    @gg.compile
    def f(x):
        pair = Pair(x + 1, [x * 2, {"a": x * 3}])
        return pair, Result(x * 4, [x * 5, "text"]), None, 7

    for value in (1.0, 2.0):
        pair, result, nothing, seven = f(gg.tensor([value]))
        assert isinstance(pair, Pair)
        assert pair.first.tolist() == [value + 1]
        assert pair.second[1]["a"].tolist() == [value * 3]
        assert isinstance(result, Result)
        assert result.values.tolist() == [value * 4]
        assert result.parts[0].tolist() == [value * 5]
        assert (result.parts[1], nothing, seven) == ("text", None, 7)
    assert len(f.specialisations) == 1


def test_keyword_arguments_and_static_ones():
    @gg.compile
    def f(x, scale=1.0, *, offset=None, kind="sum"):
        y = x * scale if offset is None else x * scale + offset
        return y.sum() if kind == "sum" else y.mean()

    x = gg.tensor([1.0, 2.0])
    assert f(x).item() == 3
    assert f(x, 2.0).item() == 6
    assert f(x, offset=gg.ones(2)).item() == 5
    assert f(x, kind="mean").item() == 1.5
    assert f(x, scale=2.0, kind="mean").item() == 3
    assert len(f.specialisations) == 5
    assert f(x, 2.0).item() == 6
    assert len(f.specialisations) == 5


def test_returned_arguments_and_state_are_the_objects_themselves():
    w = gg.ones(3)

    @gg.compile
    def f(x):
        w.add_(x)
        return x, w, w[1:], x.view(3, 1), (y := x + 1), y

    x = gg.ones(3)
    for expected in (2.0, 3.0):
        a, b, c, d, e, g = f(x)
        assert a is x
        assert b is w
        assert e is g
        assert c.tolist() == [expected] * 2
        w[1] = 7
        assert c[0].item() == 7
        w[1] = expected
        d[0] = 5
        assert x[0].item() == 5
        x[0] = 1


def test_equal_results_have_memory_of_their_own():
    @gg.compile
    def f(x):
        return x + 1, x + 1

    a, b = f(gg.ones(2))
    a.zero_()
    assert b.tolist() == [2, 2]


def test_arguments_written_in_place_are_written_back():
    @gg.compile
    def f(x, y):
        x.mul_(2)
        y[0] = x.sum()
        return x + y

    for _ in range(2):
        x, y = gg.ones(3), gg.zeros(3)
        assert f(x, y).tolist() == [8, 2, 2]
        assert x.tolist() == [2, 2, 2]
        assert y.tolist() == [6, 0, 0]
        assert x._version == 1
    assert len(f.specialisations) == 1


def test_arguments_that_share_memory_are_handled_as_eagerly():
    @gg.compile
    def f(x, y):
        x.mul_(2)
        return x + y

    x = gg.ones(3)
    assert f(x, x).tolist() == [4, 4, 4]
    assert f(x, gg.ones(3)).tolist() == [5, 5, 5]
    both = gg.ones(4)
    assert f(both[:3], both[1:]).tolist() == [3, 4, 3] or both.tolist() == [2, 2, 2, 1]
    assert both.tolist() == [2, 2, 2, 1]
    assert f(x, x).tolist() == [16, 16, 16]
    assert f(gg.ones(3), gg.ones(3)).tolist() == [3, 3, 3]
    assert [s.calls for s in f.specialisations] == [2]
    assert "shared memory" in f.explain()


def test_the_same_tensor_twice_is_one_trace_where_nothing_is_written():
    f = gg.compile(lambda x, y: x * y)
    x = gg.tensor([3.0])
    assert f(x, x).tolist() == [9]
    assert f(x, gg.tensor([2.0])).tolist() == [6]
    assert len(f.specialisations) == 1


def test_an_argument_that_is_the_state_itself():
    w = gg.ones(3)

    @gg.compile
    def f(x):
        w.add_(1)
        return x + w

    assert f(gg.zeros(3)).tolist() == [2, 2, 2]
    assert f(w).tolist() == [6, 6, 6]
    assert f(gg.zeros(3)).tolist() == [4, 4, 4]
    assert len(f.specialisations) == 1


def test_transposed_arguments_and_parameters():
    weight = nn.Parameter(gg.arange(6.0).reshape(2, 3).t())
    opt = gg.optim.SGD([weight], lr=0.1)

    def step(x):
        opt.zero_grad()
        loss = (x @ weight).square().sum()
        loss.backward()
        opt.step()
        return loss

    x = gg.arange(6.0).reshape(3, 2).t()
    start = weight.detach().clone()
    want = [step(x).item() for _ in range(3)]
    after = weight.detach().clone()
    with gg.no_grad():
        weight.copy_(start)
    compiled = gg.compile(step)
    assert [compiled(x).item() for _ in range(3)] == want
    assert weight.tolist() == after.tolist()
    assert not weight.is_contiguous()


def test_constants_made_inside_are_new_at_every_call():
    @gg.compile
    def f(x):
        total = gg.tensor([1.0, 2.0])
        total += x
        counts = gg.zeros(2)
        counts += 1
        return total, counts

    for _ in range(3):
        total, counts = f(gg.ones(2))
        assert total.tolist() == [2, 3]
        assert counts.tolist() == [1, 1]


def test_state_that_swaps_places():
    a, b = gg.tensor([1.0]), gg.tensor([2.0])

    @gg.compile
    def swap():
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)

    swap()
    assert (a.item(), b.item()) == (2, 1)
    swap()
    assert (a.item(), b.item()) == (1, 2)


def test_nested_compiled_functions_are_one_program():
    inner = gg.compile(lambda x: x * 2)

    @gg.compile
    def outer(x):
        return inner(x) + 1

    assert outer(gg.ones(2)).tolist() == [3, 3]
    assert not inner.specialisations
    assert inner(gg.ones(2)).tolist() == [2, 2]


def test_partials_and_options():
    f = gg.compile(functools.partial(lambda x, y, k: x * y + k, gg.ones(2), k=3))
    assert f(gg.tensor([2.0, 4.0])).tolist() == [5, 7]
    g = gg.compile(lambda x: x, disable=True)
    assert g(3) == 3
    assert not hasattr(g, "explain")
    h = gg.compile(mode="max-autotune", backend="inductor", dynamic=False)(lambda x: x + 1)
    assert h(gg.ones(1)).item() == 2
    assert gg.compile(h) is h
    with pytest.raises(ArgumentError, match="backend must be one of"):
        gg.compile(lambda x: x, backend="tvm")
    with pytest.raises(ArgumentTypeError, match="make an object of it first"):
        gg.compile(nn.Linear)


def test_without_arguments_or_tensors():
    f = gg.compile(lambda: gg.ones(2) + 1)
    assert f().tolist() == [2, 2]
    assert f().tolist() == [2, 2]
    assert gg.compile(lambda n: n + 1)(3) == 4


def test_zero_sized_and_scalar_tensors():
    f = gg.compile(lambda x, y: (x.sum(), x * y, y + 1))
    for n in (0, 1):
        total, product, y = f(gg.ones(n, 3), gg.tensor(2.0))
        assert total.item() == 3 * n
        assert product.shape == (n, 3)
        assert y.shape == ()


def test_half_types_and_integers():
    f = gg.compile(lambda x, i: (x * 2, i // 2, i > 1))
    x, i = gg.ones(2).half(), gg.tensor([1, 5])
    for out, want in zip(f(x, i), (x * 2, i // 2, i > 1), strict=True):
        assert out.dtype is want.dtype
        assert np.array_equal(out.numpy(), want.numpy())
