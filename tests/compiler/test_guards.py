"""What a trace relied on is looked at before each call, and a retrace says what was different."""

import argparse
import types
import warnings

import pytest

import ganglion as gg
from ganglion import nn
from tests.compiler.twins import batches, compare, network

pytestmark = pytest.mark.usefixtures("interpreted")

SCALE = 2.0
OPTIONS = {"power": 2, "names": ["a", "b"]}
settings = argparse.Namespace(shift=1)
module = types.ModuleType("config_of_the_test")
module.RATE = 3.0


def reasons(f):
    return [s.reason for s in reversed(f.specialisations)]


def test_shapes_dtypes_and_requires_grad_of_arguments():
    f = gg.compile(lambda x: (x * 2).sum())
    for x in (gg.ones(3), gg.ones(4), gg.ones(4).double(), gg.ones(4, requires_grad=True)):
        f(x)
        f(x)
    assert reasons(f) == [
        "first call",
        "argument x: shape (3,) -> (4,)",
        "argument x: dtype float32 -> float64",
        "argument x: dtype float64 -> float32, requires_grad False -> True",
    ]


def test_nested_arguments_are_named():
    f = gg.compile(lambda batch: batch["x"][0] + batch["k"])
    f({"x": [gg.ones(2), gg.ones(3)], "k": 1})
    f({"x": [gg.ones(2), gg.ones(4)], "k": 1})
    f({"x": [gg.ones(2), gg.ones(4)], "k": 2})
    f({"x": [gg.ones(2)], "k": 2})
    assert reasons(f)[1:] == [
        "argument batch['x'][1]: shape (3,) -> (4,)",
        "argument batch['k']: 1 -> 2",
        "arguments of another number or nesting",
    ]


def test_one_is_not_true():
    f = gg.compile(lambda x, k: x + k)
    assert f(gg.zeros(1, dtype=gg.int64), 1).dtype is gg.int64
    assert f(gg.zeros(1, dtype=gg.int64), 1.0).dtype is gg.float32
    assert f(gg.zeros(1, dtype=gg.bool), True).dtype is gg.bool
    assert len(f.specialisations) == 3


def test_globals_attributes_of_modules_and_option_objects(monkeypatch):
    def f(x):
        return (x * SCALE) ** OPTIONS["power"] + settings.shift + module.RATE

    compiled = gg.compile(f)
    x = gg.ones(1)
    assert compiled(x).item() == f(x).item() == 8
    changes = [
        lambda: monkeypatch.setitem(globals(), "SCALE", 3.0),
        lambda: monkeypatch.setitem(OPTIONS, "power", 3),
        lambda: monkeypatch.setattr(settings, "shift", 5),
        lambda: monkeypatch.setattr(module, "RATE", -1.0),
    ]
    for change in changes:
        change()
        assert compiled(x).item() == f(x).item()
    assert [r.split(":")[0].split(" ")[0] for r in reasons(compiled)[1:]] == [
        "SCALE", "OPTIONS['power']", "settings.shift", "module.RATE",
    ]  # fmt: skip
    assert compiled(x).item() == f(x).item()
    assert len(compiled.specialisations) == 5


def test_closures_and_functions_called():
    factor, inner_factor = 2, 3

    def helper(x):
        return x * inner_factor

    def f(x):
        return helper(x) * factor

    compiled = gg.compile(f)
    assert compiled(gg.ones(1)).item() == 6
    factor = 5
    assert compiled(gg.ones(1)).item() == 15
    inner_factor = 1
    assert compiled(gg.ones(1)).item() == 5
    assert reasons(compiled)[1:] == ["factor in f(): 2 -> 5", "inner_factor in helper(): 3 -> 1"]


def test_lists_and_dictionaries_that_are_gone_through():
    weights, parts = [1, 2], {"a": [nn.Linear(2, 2)], "b": 1}

    def f(x):
        total = x
        for w in weights:
            total = total + x * w
        for part in parts.values():
            total = total + (part if isinstance(part, int) else len(part))
        return total

    compiled = gg.compile(f)
    x = gg.ones(1)
    assert compiled(x).item() == f(x).item()
    weights.append(10)
    assert compiled(x).item() == f(x).item()
    weights[0] = 7
    assert compiled(x).item() == f(x).item()
    parts["b"] = 20
    assert compiled(x).item() == f(x).item()
    parts["a"].append(None)
    assert compiled(x).item() == f(x).item()
    assert len(compiled.specialisations) == 5


def test_training_and_other_flags_of_modules():
    model = network()
    f = gg.compile(lambda x: model(x) + 0)
    x, _ = batches()[0]
    model.eval()
    calm = f(x)
    assert f(x).tolist() == calm.tolist()
    model.train()
    assert f(x).tolist() != calm.tolist()
    model[2].p = 0.0
    assert f(x).tolist() == calm.tolist()
    model.eval()
    assert f(x).tolist() == calm.tolist()
    assert len(f.specialisations) == 4
    assert "training in forward(): False -> True" in f.explain()


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
        for i, block in enumerate(self.blocks):
            block.scale = i + 1
        self.kind = types.SimpleNamespace(bias=0.5)

    @property
    def bias(self):
        return self.kind.bias

    def forward(self, x):
        for block in self.blocks:
            x = block(x) * block.scale
        return x + self.bias


@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m.blocks[0], "scale", 7),
        lambda m: setattr(m.blocks[1], "scale", 7),
        lambda m: setattr(m.kind, "bias", 1.5),
        lambda m: setattr(m.blocks.append(nn.Identity())[2], "scale", 3),
        lambda m: setattr(m, "blocks", nn.ModuleList()),
        lambda m: m.blocks[0].register_forward_hook(lambda module, args, out: out * 2),
    ],
)
def test_what_a_modules_own_code_reads(change):
    gg.manual_seed(0)
    model = Blocks()
    f = gg.compile(model)
    x = gg.ones(1, 2)
    assert f(x).tolist() == model(x).tolist()
    before = model(x).tolist()
    change(model)
    assert model(x).tolist() != before
    assert f(x).tolist() == model(x).tolist()
    assert len(f._compiled.specialisations) == 2


def test_slots_and_class_attributes():
    class Config:
        __slots__ = ("a",)
        b = 2

    config = Config()
    config.a = 1
    f = gg.compile(lambda x: x * config.a + config.b)
    assert f(gg.ones(1)).item() == 3
    config.a = 5
    assert f(gg.ones(1)).item() == 7
    Config.b = 0
    assert f(gg.ones(1)).item() == 5


def test_a_parameter_replaced_by_another_object():
    layer = nn.Linear(2, 1)
    f = gg.compile(lambda x: layer(x) + 0)
    x = gg.ones(1, 2)
    f(x)
    layer.weight = nn.Parameter(gg.zeros(1, 2))
    layer.bias = nn.Parameter(gg.ones(1))
    assert f(x).item() == 1
    assert len(f.specialisations) == 2
    layer.load_state_dict({"weight": gg.ones(1, 2), "bias": gg.zeros(1)})
    assert f(x).item() == 2
    layer.weight.data = gg.full((1, 2), 3.0)
    assert f(x).item() == 6
    assert len(f.specialisations) == 2
    layer.double()
    assert f(x.double()).dtype is gg.float64
    assert len(f.specialisations) == 3


def test_requires_grad_of_captured_tensors():
    layer = nn.Linear(2, 1)

    def step(x):
        layer.zero_grad()
        layer(x).sum().backward()

    f = gg.compile(step)
    f(gg.ones(1, 2))
    layer.weight.requires_grad_(False)
    f(gg.ones(1, 2))
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    layer.weight.requires_grad_()
    f(gg.ones(1, 2))
    assert layer.weight.grad is not None
    assert len(f.specialisations) == 2


def test_grad_mode_and_default_dtype():
    w = gg.ones(2, requires_grad=True)
    f = gg.compile(lambda: (w * 2, gg.zeros(1)))
    assert f()[0].requires_grad
    with gg.no_grad():
        assert not f()[0].requires_grad
    gg.set_default_dtype(gg.float64)
    try:
        assert f()[1].dtype is gg.float64
    finally:
        gg.set_default_dtype(gg.float32)
    assert reasons(f)[1:] == [
        "grad mode: True -> False", "default dtype: ganglion.float32 -> ganglion.float64"
    ]  # fmt: skip


def test_hooks_of_parameters():
    w = gg.ones(2, requires_grad=True)

    def step():
        w.grad = None
        (w * 3).sum().backward()
        return w.grad

    f = gg.compile(step)
    assert f().tolist() == [3, 3]
    handle = w.register_hook(lambda g: g * 10)
    assert f().tolist() == [30, 30]
    handle.remove()
    assert f().tolist() == [3, 3]


def test_the_optimizers_options_and_state():
    def make():
        model = network(0.0)
        opt = gg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        def between(i):
            group = opt.param_groups[0]
            if i == 1:
                group["nesterov"] = True
            if i == 2:
                group["momentum"] = 0.5
            if i == 3:
                opt.load_state_dict(opt.state_dict())
            if i == 4:
                opt.add_param_group({"params": [nn.Parameter(gg.ones(1))], "lr": 0.5})
            if i == 5:
                opt.state.clear()

        return step, lambda: [model.state_dict(), opt.state_dict()["state"]], between

    step = compare(make, batches((8,) * 8))
    assert len(step.specialisations) == 5
    assert "param_groups[...]['nesterov']: False -> True" in step.explain()


def test_more_than_eight_traces_warn_and_run_eagerly():
    f = gg.compile(lambda x: x * 2)
    for n in range(1, 9):
        f(gg.ones(n))
    with pytest.warns(UserWarning, match=r"traced 8 times.*shape \(8,\) -> \(9,\)"):
        assert f(gg.ones(9)).shape == (9,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(gg.ones(10)).shape == (10,)
        assert f(gg.ones(3)).shape == (3,)
    assert len(f.specialisations) == 8
    f.reset()
    f(gg.ones(12))
    assert reasons(f) == ["first call"]


def test_debug_prints_traces_and_reasons(monkeypatch, capsys):
    monkeypatch.setenv("GANGLION_DEBUG", "1")
    f = gg.compile(lambda x: x * 2)
    f(gg.ones(1))
    f(gg.ones(2))
    said = capsys.readouterr().err
    assert "trace 1: first call" in said
    assert "trace 2: argument x: shape (1,) -> (2,)" in said


def test_equal_numbers_that_are_new_objects_are_the_same():
    box = types.SimpleNamespace(value=float("1000.5"))
    f = gg.compile(lambda x: x * box.value)
    f(gg.ones(1))
    box.value = float("1000.5")
    f(gg.ones(1))
    assert len(f.specialisations) == 1
