"""Every optimizer follows PyTorch's trajectory, and keeps its state in PyTorch's layout."""

import copy

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import CheckpointError

torch = pytest.importorskip("torch")

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 1e-6}),
    ("Adagrad", {"initial_accumulator_value": 0.5, "maximize": True}),
    ("RMSprop", {}),
    ("RMSprop", {"alpha": 0.9, "eps": 1e-5, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.9}),
    ("RMSprop", {"centered": True}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "maximize": True}),
    ("Adam", {}),
    ("Adam", {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-5, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True, "maximize": True}),
    ("Adam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.2, "amsgrad": True}),
]
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def problem(lib, dtype):
    """Two parameters (one larger than a block of the kernels) and a loss that curves."""
    rng = np.random.default_rng(0)
    a = lib.tensor(rng.normal(size=(130, 140)).astype(dtype), requires_grad=True)
    b = lib.tensor(rng.normal(size=(7,)).astype(dtype), requires_grad=True)

    def loss():
        curved = (a - 1) * (a - 1) + (2 * a).sin()
        return curved.sum() / 10 + (b * b).sum() + 0.1 * a[0, 0] * b[0]

    return [a, b], loss


def trajectory(lib, name, options, dtype, steps=20):
    params, loss = problem(lib, dtype)
    optimizer = getattr(lib.optim, name)(params, **options)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_twenty_steps_follow_pytorch(name, options, dtype):
    ours, _ = trajectory(gg, name, options, dtype)
    theirs, _ = trajectory(torch, name, options, dtype)
    for p, q in zip(ours, theirs, strict=True):
        want = q.detach().numpy()
        scale = np.abs(want).max()
        assert np.abs(p.detach().numpy() - want).max() <= TOLERANCE[dtype] * scale


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_dict_has_pytorch_layout(name, options):
    _, ours = trajectory(gg, name, options, "float32", 2)
    _, theirs = trajectory(torch, name, options, "float32", 2)
    got, want = ours.state_dict(), theirs.state_dict()
    assert {
        k: {s: tuple(v.shape) for s, v in slots.items()} for k, slots in got["state"].items()
    } == {
        k: {s: tuple(v.shape) for s, v in slots.items() if v is not None}
        for k, slots in want["state"].items()
        if any(v is not None for v in slots.values())
    }
    for mine, its in zip(got["param_groups"], want["param_groups"], strict=True):
        assert set(its) <= set(mine) | {"decoupled_weight_decay"}
        assert mine["params"] == its["params"]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_restores_the_same_trajectory(name, options):
    whole, _ = trajectory(gg, name, options, "float32", 6)
    params, optimizer = trajectory(gg, name, options, "float32", 3)
    fresh, loss = problem(gg, "float32")
    with gg.no_grad():
        for p, q in zip(fresh, params, strict=True):
            p.copy_(q)
    second = getattr(gg.optim, name)(fresh, **options)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        second.zero_grad()
        loss().backward()
        second.step()
    for p, q in zip(fresh, whole, strict=True):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy())


def test_parameter_groups_have_their_own_options():
    a, b = gg.ones(3, requires_grad=True), gg.ones(3, requires_grad=True)
    optimizer = gg.optim.SGD([{"params": [a], "lr": 1.0}, {"params": b}], lr=0.5)
    (a.sum() + b.sum()).backward()
    optimizer.step()
    assert a.tolist() == [0.0] * 3
    assert b.tolist() == [0.5] * 3


def test_parameters_without_gradient_are_left_alone():
    a, b = gg.ones(3, requires_grad=True), gg.ones(3, requires_grad=True)
    optimizer = gg.optim.Adam([a, b])
    a.sum().backward()
    optimizer.step()
    assert b.tolist() == [1.0] * 3
    assert b not in optimizer.state


def test_non_contiguous_parameters_are_updated_in_place():
    base = gg.ones(4, 5)
    p = base.t().detach().requires_grad_()
    p.sum().backward()
    gg.optim.Adam([p], lr=0.5).step()
    assert base.numpy() == pytest.approx(0.5)


def test_closure_is_called_with_gradients_on():
    w = gg.ones(1, requires_grad=True)
    optimizer = gg.optim.SGD([w], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 1.0
    assert w.item() == pytest.approx(0.8)


def test_named_parameters_are_checked_on_loading():
    model, other = gg.nn.Linear(2, 3), gg.nn.Sequential(gg.nn.Linear(2, 3))
    saved = gg.optim.SGD(model.named_parameters(), lr=0.1).state_dict()
    assert saved["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(CheckpointError, match=r"'0.weight'.*'weight'"):
        gg.optim.SGD(other.named_parameters(), lr=0.1).load_state_dict(saved)


def test_state_of_another_shape_is_refused_and_changes_nothing():
    _, trained = trajectory(gg, "Adam", {}, "float32", 1)
    small = [gg.ones(2, requires_grad=True), gg.ones(7, requires_grad=True)]
    optimizer = gg.optim.Adam(small, lr=0.5)
    with pytest.raises(CheckpointError, match=r"exp_avg.*another model"):
        optimizer.load_state_dict(trained.state_dict())
    assert not optimizer.state
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: gg.optim.SGD([], lr=0.1), "empty parameter list"),
        (lambda p: gg.optim.SGD(p, lr=0.1), "iterable"),
        (lambda p: gg.optim.SGD([p, p], lr=0.1), "more than one"),
        (lambda p: gg.optim.SGD([p], lr=-1), "learning rate: -1"),
        (lambda p: gg.optim.SGD([p], nesterov=True), "Nesterov"),
        (lambda p: gg.optim.SGD([p * 2]), "non-leaf"),
        (lambda p: gg.optim.Adam([p], betas=(1.0, 0.9)), "beta parameter at index 0"),
        (lambda p: gg.optim.Adam([p], differentiable=True), "differentiable"),
        (lambda p: gg.optim.Adam([3.0]), "only optimize Tensors"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(gg.ones(2, requires_grad=True))
