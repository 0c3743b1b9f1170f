"""Compiled modules, methods and functions as objects: shared state, copies, threads."""

import copy
import pickle
import threading

import pytest

import ganglion as gg
from ganglion import nn
from tests.compiler.twins import assert_same, batches, bits, network

pytestmark = pytest.mark.usefixtures("interpreted")


def test_a_compiled_module_behaves_like_the_module():
    model = network()
    compiled = gg.compile(model)
    assert isinstance(compiled, nn.Module)
    assert isinstance(compiled, nn.Sequential)
    assert compiled._orig_mod is model
    assert compiled.state_dict().keys() == model.state_dict().keys()
    assert next(compiled.parameters()) is next(model.parameters())
    assert len(compiled) == 4
    assert compiled[0] is model[0]
    compiled.eval()
    assert not model.training
    assert not model[2].training
    model.note = "text"
    assert compiled.note == "text"
    compiled.extra = nn.Linear(2, 2)
    assert model.extra is compiled.extra
    assert repr(compiled).startswith("CompiledSequential(")
    x, _ = batches()[0]
    del model.extra
    assert_same(bits(compiled(x)), bits(model(x)))
    assert "first call" in compiled.explain()
    assert gg.compile(compiled) is compiled


def test_a_compiled_module_in_another_module_and_in_a_compiled_step():
    model = nn.Sequential(gg.compile(nn.Linear(12, 8)), nn.ReLU(), nn.Linear(8, 5))
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x, _ = batches()[0]
    want = bits(model(x))
    step = gg.compile(lambda x: model(x) + 0)
    assert_same(bits(step(x)), want)
    assert len(model[0]._compiled.specialisations) == 1  # from the call outside


def test_callable_objects():
    class Scale:
        def __init__(self, k):
            self.k = k

        def __call__(self, x):
            return x * self.k

    scale = Scale(2)
    f = gg.compile(scale)
    assert f(gg.ones(1)).item() == 2
    scale.k = 3
    assert f(gg.ones(1)).item() == 3


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.call = gg.compile(self.double_it, backend="interpret")

    def double_it(self, x):
        return self.layer(x) * 2

    @gg.compile(backend="interpret")
    def forward(self, x):
        return self.layer(x)


@gg.compile(backend="interpret")
def module_level(x):
    """Its text."""
    return x + 1


def test_methods_have_traces_for_each_instance():
    a, b = Net(), Net()
    x = gg.ones(1, 2)
    assert_same(bits(a(x)), bits(a.layer(x)))
    assert_same(bits(b(x)), bits(b.layer(x)))
    assert_same(bits(a(x)), bits(a.layer(x)))
    assert len(a.forward.specialisations) == 1
    assert a.forward.specialisations[0].calls == 2
    assert Net.forward.specialisations == []
    assert len(list(a.parameters())) == 2


def test_a_compiled_method_can_be_overridden_and_extended():
    class Child(Net):
        def forward(self, x):
            return super().forward(x) + 100

    net, x = Child(), gg.ones(1, 2)
    want = (net.layer(x) + 100).tolist()
    assert [net(x).tolist() for _ in range(3)] == [want] * 3
    compiled = gg.compile(net)
    assert compiled(x).tolist() == want


def test_methods_of_objects_without_a_dictionary():
    class Slots:
        __slots__ = ("k",)

        @gg.compile(backend="interpret")
        def call(self, x):
            return x * self.k

    one, two = Slots(), Slots()
    one.k, two.k = 2, 3
    assert one.call(gg.ones(1)).item() == 2
    assert two.call(gg.ones(1)).item() == 3
    one.k = 4
    assert one.call(gg.ones(1)).item() == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_modules_with_compiled_functions_have_their_own(copied):
    net = Net()
    x = gg.ones(1, 2)
    net(x), net.call(x)
    twin = copied(net)
    with gg.no_grad():
        twin.layer.weight.zero_()
        twin.layer.bias.fill_(1)
    assert twin(x).tolist() == [[1, 1]]
    assert twin.call(x).tolist() == [[2, 2]]
    assert net(x).tolist() != [[1, 1]]
    assert twin.call.function.__self__ is twin
    assert len(twin.call.specialisations) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_of_compiled_modules(copied):
    compiled = gg.compile(nn.Linear(2, 1))
    x = gg.ones(1, 2)
    want = compiled(x).item()
    twin = copied(compiled)
    assert twin(x).item() == want
    with gg.no_grad():
        twin.weight.zero_()
    assert twin(x).item() == twin.bias.item()
    assert compiled(x).item() == want
    assert twin._orig_mod.weight is twin.weight


def test_functions_keep_their_name_and_text_and_are_pickled_by_name():
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Its text."
    assert repr(module_level) == "<compiled module_level>"
    assert pickle.loads(pickle.dumps(module_level)) is module_level


def test_threads_take_turns():
    total = gg.zeros(3)
    errors = []

    @gg.compile
    def f(x):
        total.add_(x)
        return x * 2

    def work(n):
        try:
            for _ in range(20):
                assert f(gg.ones(3) * n).tolist() == [2 * n] * 3
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert total.tolist() == [300.0] * 3
    assert len(f.specialisations) == 1


def test_threads_trace_different_functions_at_once():
    barrier = threading.Barrier(2)
    found = {}

    def make(k):
        def f(x):
            barrier.wait(timeout=10)
            return (x * k).sum()

        return gg.compile(f)

    def work(k):
        x = gg.ones(3, requires_grad=True)
        make(k)(x).backward()
        found[k] = x.grad.tolist()

    threads = [threading.Thread(target=work, args=(k,)) for k in (2.0, 3.0)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == {2.0: [2.0] * 3, 3.0: [3.0] * 3}


def test_recursion_runs_inside_the_trace():
    @gg.compile
    def power(x, n):
        return x if n == 1 else x * power(x, n - 1)

    assert power(gg.tensor(2.0), 5).item() == 32


def test_anomaly_mode_and_other_listeners_see_every_op():
    f = gg.compile(lambda x: (x - 2).sqrt())
    with gg.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="'sqrt' made the first"):
        f(gg.ones(1))


def test_a_profiler_that_runs_is_left_running():
    import cProfile

    profile = cProfile.Profile()
    f = gg.compile(lambda x: x * 2)
    profile.enable()
    f(gg.ones(1))
    gg.ones(3).sum()
    profile.disable()
    names = {
        code.co_name for code in (e.code for e in profile.getstats()) if hasattr(code, "co_name")
    }
    assert "sum" in names
