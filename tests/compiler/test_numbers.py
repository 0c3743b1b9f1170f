"""Numbers that change from call to call are read by the program, and have the bits of eager."""

import math
import types

import pytest

import ganglion as gg
from ganglion import nn
from tests.compiler.twins import batches, compare, network

pytestmark = pytest.mark.usefixtures("interpreted")


def test_a_float_argument_that_keeps_changing_becomes_a_number():
    def f(x, w):
        return x * w + 2 * w - (w if w > 0 else -w) / 3

    compiled = gg.compile(f)
    x = gg.tensor([0.1, 0.7, 123.456])
    for w in (0.1, 0.2, 0.3, 0.4, 1e-3, 0.7):
        assert compiled(x, w).tolist() == f(x, w).tolist()
    assert len(compiled.specialisations) == 3
    assert compiled(x, -0.3).tolist() == f(x, -0.3).tolist()  # another branch
    assert len(compiled.specialisations) == 4
    assert "any float" in compiled.explain()


@pytest.mark.parametrize(("dynamic", "traces"), [(True, 1), (None, 3), (False, 6)])
def test_dynamic_says_when(dynamic, traces):
    f = gg.compile(lambda x, w: x * w, dynamic=dynamic)
    for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        assert f(gg.ones(1), w).tolist() == (gg.ones(1) * w).tolist()
    assert len(f.specialisations) == traces


@pytest.mark.parametrize("place", ["attribute", "closure", "item", "module"])
def test_floats_elsewhere_become_numbers_too(place):
    box, items, value = types.SimpleNamespace(w=0.1), {"w": 0.1}, 0.1
    layer = nn.Linear(1, 1)
    layer.w = 0.1
    functions = {
        "attribute": lambda x: x * box.w,
        "closure": lambda x: x * value,
        "item": lambda x: x * items["w"],
        "module": lambda x: layer(x) * layer.w,
    }
    f = gg.compile(functions[place])
    x = gg.tensor([[0.7]])
    for w in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        box.w = items["w"] = layer.w = value = w
        assert f(x).tolist() == functions[place](x).tolist()
    assert len(f.specialisations) == 3
    assert type(box.w) is type(items["w"]) is type(layer.w) is type(value) is float


def test_loss_weights_in_a_training_step():
    def make():
        model = network(0.0)
        opt = gg.optim.AdamW(model.parameters())

        def step(x, y, weight):
            opt.zero_grad()
            out = model(x)
            loss = nn.functional.cross_entropy(out, y) + weight * out.square().mean()
            loss.backward()
            opt.step()
            return loss

        return step, model.state_dict, None

    data = [(x, y, 0.1 * i) for i, (x, y) in enumerate(batches((8,) * 8))]
    step = compare(make, data)
    assert len(step.specialisations) == 3


def test_betas_and_weight_decay_may_change():
    def make():
        model = network(0.0)
        opt = gg.optim.AdamW(model.parameters())

        def step(x, y):
            opt.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            opt.step()

        def between(i):
            opt.param_groups[0]["betas"] = (0.9 - 0.1 * i, 0.99)
            opt.param_groups[0]["weight_decay"] = 0.01 * (i + 1)

        return step, model.state_dict, between

    step = compare(make, batches((8,) * 5))
    assert len(step.specialisations) == 1


class Lion(gg.optim.Optimizer):
    """A user's optimizer with arithmetic on its options, and slots of its own making."""

    def __init__(self, params, lr=1e-2, beta=0.9, wd=0.1, root=False):
        super().__init__(params, {"lr": lr, "beta": beta, "wd": wd, "root": root})

    def update(self, group):
        lr = group["lr"] if not group["root"] else math.sqrt(group["lr"])
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["m"] = gg.zeros_like(p)
            p.mul_(1 - lr * group["wd"])
            m = state["m"]
            p.sub_((m * group["beta"] + p.grad * (1 - group["beta"])).sign() * lr)
            m.mul_(group["beta"]).add_(p.grad, alpha=1 - group["beta"])


def lion(**options):
    def make():
        model = network()
        opt = Lion(model.parameters(), **options)
        schedule = gg.optim.lr_scheduler.CosineAnnealingLR(opt, 10)

        def step(x, y):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return (
            step,
            lambda: [model.state_dict(), opt.state_dict()["state"]],
            (lambda i: schedule.step()),
        )

    return make


def test_an_optimizer_of_ones_own_starts_eagerly_and_then_needs_one_trace():
    step = compare(lion(), batches((8,) * 6))
    assert [s.calls for s in step.specialisations] == [5]


def test_numbers_looked_at_unseen_are_relied_on():
    step = compare(lion(root=True), batches((8,) * 4))
    assert len(step.specialisations) == 3  # the rate goes through math.sqrt: a trace for each


def test_a_number_that_the_program_looks_at_is_relied_on():
    f = gg.compile(lambda x, w: x * int(w * 10) + (1 if w else 2), dynamic=True)
    assert f(gg.ones(1), 0.51).item() == 6
    assert f(gg.ones(1), 0.52).item() == 6
    assert len(f.specialisations) == 1
    assert f(gg.ones(1), 0.75).item() == 8
    assert len(f.specialisations) == 2


def test_a_number_as_a_parameter_of_an_op_is_relied_on():
    f = gg.compile(lambda x, w: x.clamp(max=w), dynamic=True)
    for w in (0.5, 0.25, 0.5):
        assert f(gg.ones(1), w).item() == w


def test_a_lifted_number_keeps_to_itself_after_the_trace():
    kept = []

    def f(x, w):
        kept.append(w * 2)
        return x * w

    compiled = gg.compile(f, dynamic=True)
    compiled(gg.ones(1), 0.5)
    assert kept[0] == 1.0
    assert kept[0] > 0
    assert compiled(gg.ones(1), 0.75).item() == 0.75
    assert len(compiled.specialisations) == 1


@pytest.mark.parametrize("op", ["__add__", "__rsub__", "__truediv__", "__rpow__", "__mod__"])
def test_arithmetic_is_that_of_floats(op):
    f = gg.compile(lambda x, w: x * getattr(w, op)(1.7), dynamic=True)
    for w in (0.3, 2.9, 1e-9, 123.678):
        assert f(gg.ones(1).double(), w).item() == getattr(w, op)(1.7)
    assert len(f.specialisations) == 1
