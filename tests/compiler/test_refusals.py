"""What a trace cannot follow is refused with the user's line; nothing is left changed."""

import copy
import random
import warnings

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.errors import TraceError
from tests.compiler.twins import assert_same, batches, bits, network

pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.detach().numpy(),
        lambda x: 1 if x.sum() > 0 else 2,
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: range(x.long().sum()),
    ],
)
def test_values_are_refused_with_the_line_and_a_remedy(look):
    with pytest.raises(TraceError, match=r"test_refusals.py:\d+"):
        gg.compile(look)(gg.ones(2))


def failing(error):
    gg.manual_seed(0)
    model = network()
    opt = gg.optim.Adam(model.parameters())
    buffer = gg.zeros(3)

    def step(x, y):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        buffer.add_(1)
        model[0].weight.requires_grad_(False)
        if error:
            raise ValueError("the user's own")
        return loss

    return model, opt, buffer, step


def test_an_error_while_tracing_leaves_everything_as_it_was():
    model, opt, buffer, step = failing(error=True)
    model(batches()[0][0]).sum().backward()
    before = bits([model.state_dict(), [p.grad for p in model.parameters()], gg.get_rng_state()])
    before = copy.deepcopy(before)
    versions = [p._version for p in model.parameters()]
    with pytest.raises(ValueError, match="the user's own") as caught:
        gg.compile(step)(*batches()[0])
    assert caught.traceback[-1].name == "step"
    grads = [p.grad for p in model.parameters()]
    assert_same(before[:2], bits([model.state_dict(), grads]))
    assert not opt.state
    assert buffer.tolist() == [0, 0, 0]
    assert model[0].weight.requires_grad
    assert versions == [p._version for p in model.parameters()]
    model, opt, buffer, step = failing(error=False)
    gg.compile(step)(*batches()[0])
    assert buffer.tolist() == [1, 1, 1]


def test_a_leaked_tensor_names_the_line_that_made_it():
    kept = []

    @gg.compile
    def f(x):
        y = x * 2
        kept.append(y)
        return y.sum()

    f(gg.ones(2))
    f(gg.ones(2))
    assert len(kept) == 1
    for use in (lambda y: y + 1, lambda y: y.tolist(), lambda y: y.sum().item()):
        with pytest.raises(TraceError, match=r"test_refusals.py:\d+.*return it"):
            use(kept[0])
    with pytest.raises(TraceError, match="while another call was traced"):
        gg.compile(lambda x: x + kept[0])(gg.ones(2))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.last = None

    def forward(self, x):
        self.calls += 1
        return x * 2


def test_setting_an_attribute_warns_once_with_the_line():
    model = Counter()
    f = gg.compile(model)
    with pytest.warns(UserWarning, match=r"test_refusals.py:\d+: self.calls is set") as caught:
        f(gg.ones(1))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(gg.ones(1)).item() == 2
        assert f(gg.ones(2)).tolist() == [2, 2]
    assert model.calls == 2  # once for each trace


def test_objects_made_inside_may_be_changed():
    class Box:
        def __init__(self):
            self.value = None

        def put(self, value):
            self.value = value
            return self

    f = gg.compile(lambda x: Box().put(x).value + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(gg.ones(1)).item() == 2


def test_a_flag_that_the_first_call_sets_is_noticed():
    class Lazy:
        started = False

        def __call__(self, x):
            if not self.started:
                self.started = True
                return x * 0
            return x * 2

    f = gg.compile(Lazy())
    with pytest.warns(UserWarning, match="self.started"):
        assert f(gg.ones(1)).item() == 0
    assert f(gg.ones(1)).item() == 2
    assert f(gg.ones(1)).item() == 2
    assert len(f._compiled.specialisations) == 2


def test_globals_and_outer_variables_that_are_set_are_named():
    count = 0

    @gg.compile
    def f(x):
        nonlocal count
        count += 1
        return x

    with pytest.warns(UserWarning, match=r"count in f\(\) is set"):
        f(gg.ones(1))
    f(gg.ones(1))
    assert count == 1


@pytest.mark.parametrize(
    ("draw", "whose"), [(random.random, "Python"), (np.random.random, "NumPy")]
)  # fmt: skip
def test_other_random_generators_are_refused_and_put_back(draw, whose):
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    want = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    with pytest.raises(TraceError, match=f"{whose}'s global random"):
        gg.compile(lambda x: x * draw())(gg.ones(1))
    assert draw() == want


def test_numpy_arguments_are_refused():
    with pytest.raises(TraceError, match=r"argument x is a NumPy array.*from_numpy"):
        gg.compile(lambda x: gg.tensor(x) * 2)(np.ones(2))


def test_generators_are_refused():
    def f(x):
        yield x * 2

    with pytest.raises(TraceError, match="returned a generator"):
        gg.compile(f)(gg.ones(1))


def test_a_scheduler_inside_is_refused_and_undone():
    model = network()
    opt = gg.optim.SGD(model.parameters(), lr=0.1)
    schedule = gg.optim.lr_scheduler.StepLR(opt, 1)

    @gg.compile
    def step(x, y):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
        schedule.step()

    with pytest.raises(TraceError, match="step the scheduler outside"):
        step(*batches()[0])
    assert opt.param_groups[0]["lr"] == 0.1


def test_an_optimizer_with_a_python_step_count_is_refused():
    class Counting(gg.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.1})

        def update(self, group):
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                p.sub_(p.grad / state["step"], alpha=group["lr"])

    w = nn.Parameter(gg.ones(2))
    opt = Counting([w])

    @gg.compile
    def step():
        w.grad = gg.ones(2)
        opt.step()

    step()  # eager: the state is made
    with pytest.raises(TraceError, match="replaces 'step' in a parameter's state"):
        step()
    assert opt.state[w]["step"] == 1


def test_writing_a_result_with_history_into_outer_tensors_is_refused():
    w, total = gg.ones(2, requires_grad=True), gg.zeros(2)
    with pytest.raises(TraceError, match="whose history would grow"):
        gg.compile(lambda x: total.add_(x * w))(gg.ones(2))
    assert total.tolist() == [0, 0]
    assert not total.requires_grad


def test_fullgraph_false_falls_back_with_one_warning():
    calls = []

    @gg.compile(fullgraph=False)
    def f(x):
        calls.append(1)
        return x * x.sum().item()

    with pytest.warns(UserWarning, match=r"runs eagerly: .*test_refusals.py:\d+") as caught:
        assert f(gg.ones(2)).tolist() == [2, 2]
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(gg.ones(3)).tolist() == [3, 3, 3]
    assert "runs eagerly" in f.explain()


def test_a_machine_that_cannot_compile_runs_eagerly_with_one_message(monkeypatch):
    from ganglion.compiler import backend, compiled

    monkeypatch.setattr(backend, "missing", lambda: "no compiler today")
    monkeypatch.setattr(compiled, "_told", set())
    with pytest.warns(UserWarning, match="no compiler today. Everything runs eagerly"):
        f = gg.compile(lambda x: x * x.sum().item())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(gg.ones(2)).tolist() == [2, 2]
        gg.compile(nn.Linear(2, 2))(gg.ones(1, 2))
