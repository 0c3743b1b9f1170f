"""Module behaves as PyTorch's: registration, traversal, state, modes, hooks, printing."""

import copy
import pickle

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.errors import CheckpointError

torch = pytest.importorskip("torch")


def network(lib):
    """A tree with containers, a shared layer, buffers of both kinds and a None parameter."""
    m = lib.nn

    class Net(m.Module):
        def __init__(self):
            super().__init__()
            self.body = m.Sequential(m.Linear(3, 4), m.ReLU(), m.Linear(4, 4, bias=False))
            self.again = self.body[2]
            self.heads = m.ModuleDict({"a": m.Linear(4, 2), "b": m.ModuleList([m.Identity()])})
            self.scale = m.Parameter(lib.ones(4))
            self.register_buffer("mean", lib.zeros(4))
            self.register_buffer("scratch", lib.zeros(4), persistent=False)
            self.register_parameter("absent", None)

        def forward(self, x):
            return self.heads["a"](self.again(self.body(x)) * self.scale + self.mean)

    return Net()


@pytest.fixture
def both():
    ours, theirs = network(gg), network(torch)
    ours.load_state_dict({k: gg.tensor(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def test_names_of_everything_equal_pytorch(both):
    ours, theirs = both
    for listing in ("named_parameters", "named_buffers", "named_children", "named_modules"):
        got = [name for name, _ in getattr(ours, listing)()]
        assert got == [name for name, _ in getattr(theirs, listing)()], listing
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_printing_equals_pytorch(both):
    ours, theirs = both
    assert repr(ours) == repr(theirs)


def test_same_output_and_gradients(both):
    ours, theirs = both
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    y, z = ours(gg.tensor(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-5, atol=1e-6)
    y.sum().backward()
    z.sum().backward()
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=name
        )


def test_state_dict_shares_memory_and_loading_keeps_parameters(both):
    ours, _ = both
    before = ours.scale
    state = ours.state_dict()
    with gg.no_grad():
        ours.scale.fill_(7)
    assert state["scale"].tolist() == [7.0] * 4
    ours.load_state_dict({**state, "scale": gg.zeros(4)})
    assert ours.scale is before
    assert before.tolist() == [0.0] * 4


def test_loading_reports_every_problem_and_changes_nothing():
    model = nn.Linear(2, 3)
    before = model.weight.tolist()
    with pytest.raises(CheckpointError) as caught:
        model.load_state_dict({"weight": gg.zeros(3, 5), "extra": gg.zeros(1)})
    message = str(caught.value)
    assert "size mismatch for weight" in message
    assert 'Missing key(s) in state_dict: "bias"' in message
    assert 'Unexpected key(s) in state_dict: "extra"' in message
    assert model.weight.tolist() == before


def test_loose_loading_returns_the_keys():
    model = nn.Linear(2, 3)
    keys = model.load_state_dict({"weight": gg.zeros(3, 2), "extra": gg.zeros(1)}, strict=False)
    assert keys.missing_keys == ["bias"]
    assert keys.unexpected_keys == ["extra"]
    assert model.weight.tolist() == [[0.0, 0.0]] * 3


def test_assigned_loading_takes_the_tensors_themselves():
    model = nn.Linear(2, 3)
    weight = gg.zeros(3, 2)
    model.load_state_dict({"weight": weight, "bias": gg.zeros(3)}, assign=True)
    with gg.no_grad():
        weight.fill_(2)
    assert model.weight.tolist() == [[2.0, 2.0]] * 3
    assert model.weight.requires_grad


def test_train_and_eval_reach_all_modules(both):
    ours, _ = both
    ours.eval()
    assert not any(m.training for m in ours.modules())
    ours.train()
    assert all(m.training for m in ours.modules())


def test_dtype_changes_keep_parameters_and_integer_buffers():
    model = nn.Linear(2, 2)
    model.register_buffer("count", gg.tensor(3))
    weight = model.weight
    model.double()
    assert model.weight is weight
    assert weight.dtype is gg.float64
    assert model.count.dtype is gg.int64
    assert model.half().bias.dtype is gg.float16
    assert model.to(gg.bfloat16).bias.dtype is gg.bfloat16
    assert model.float().bias.dtype is gg.float32


def test_apply_visits_children_first():
    seen = []
    model = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.ReLU()))
    model.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]


def test_attributes_move_between_kinds():
    model = nn.Module()
    model.x = 3
    model.x = nn.Parameter(gg.ones(1))
    assert [n for n, _ in model.named_parameters()] == ["x"]
    model.x = None
    assert model.x is None
    assert not list(model.parameters())
    with pytest.raises(TypeError, match="cannot assign 'str'"):
        model.x = "no"
    del model.x
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        _ = model.x


def test_assigning_before_init_explains_the_remedy():
    class Forgot(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"super\(\).__init__\(\)"):
        Forgot()


def test_forward_hooks_see_and_replace():
    model = nn.Linear(2, 2)
    seen = []
    pre = model.register_forward_pre_hook(lambda m, args: (args[0] * 0,))
    post = model.register_forward_hook(lambda m, args, out: seen.append(args[0].tolist()))
    out = model(gg.ones(1, 2))
    assert seen == [[[0.0, 0.0]]]
    assert out.tolist() == [model.bias.tolist()]
    pre.remove()
    post.remove()
    model(gg.ones(1, 2))
    assert len(seen) == 1


def test_backward_hooks_get_pytorch_gradients(both):
    results = []
    for lib, model in zip((gg, torch), both, strict=True):
        seen = []
        model.body.register_full_backward_hook(
            lambda m, gi, go, seen=seen: seen.append([g.tolist() for g in (*gi, *go)])
        )
        x = lib.ones(2, 3).requires_grad_()
        model(x).sum().backward()
        results.append(np.array(seen[0][0] + seen[0][1], dtype=object))
    for a, b in zip(*results, strict=True):
        assert list(a) == pytest.approx(list(b), rel=1e-5, abs=1e-6)


def test_copies_are_independent(both):
    ours, _ = both
    for again in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours.body))):
        with gg.no_grad():
            for p in again.parameters():
                p.fill_(9)
    assert 9.0 not in ours.scale.tolist()
    assert copy.deepcopy(ours).again is not ours.again
    twin = copy.deepcopy(ours)
    assert twin.again is twin.body[2]


def test_sequential_edits():
    model = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 3))
    assert len(model) == 3
    assert model[-1].out_features == 3
    assert [type(m).__name__ for m in model[1:]] == ["ReLU", "Linear"]
    model.append(nn.Tanh())
    model.insert(0, nn.Flatten())
    del model[2]
    assert [type(m).__name__ for m in model] == ["Flatten", "Linear", "Linear", "Tanh"]
    assert list(model.state_dict()) == ["1.weight", "1.bias", "2.weight", "2.bias"]
    with pytest.raises(IndexError):
        model[4]


def test_wrong_input_size_names_both_sizes():
    with pytest.raises(RuntimeError, match=r"expects input \(..., 128\) but got \(32, 64\)"):
        nn.Linear(128, 10)(gg.zeros(32, 64))


def test_errors_name_the_path_of_the_module():
    outer = nn.Sequential(nn.Identity(), nn.Sequential(nn.Linear(2, 3), nn.Linear(4, 5)))
    with pytest.raises(RuntimeError) as caught:
        outer(gg.zeros(1, 2))
    assert caught.value.__notes__ == ["in module '1.1' of Sequential"]


def test_dropout_only_acts_in_training():
    gg.manual_seed(0)
    drop, x = nn.Dropout(0.25), gg.ones(20_000)
    kept = drop(x)
    assert sorted(set(kept.tolist())) == pytest.approx([0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1, abs=0.03)
    assert drop.eval()(x).tolist() == x.tolist()
    assert nn.Dropout(1.0)(x).sum().item() == 0
    with pytest.raises(ValueError, match="between 0 and 1"):
        nn.Dropout(1.5)


def test_dropout_gradient_is_its_mask():
    gg.manual_seed(1)
    x = gg.ones(100, requires_grad=True)
    out = nn.Dropout(0.5)(x)
    out.sum().backward()
    assert x.grad.tolist() == out.tolist()
