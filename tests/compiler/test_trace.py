"""A traced step, interpreted, does what the same Python does eagerly: bit for bit."""

import copy

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.compiler.interpret import run
from ganglion.compiler.trace import trace
from ganglion.errors import TraceError
from ganglion.graph import parse, verify
from ganglion.ops.record import OPS

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adagrad", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
]


def infer(name, metas, params):
    found = OPS[name].infer(*metas, **params)
    return found if OPS[name].outputs > 1 else (found,)


def experiment(name="Adam", options=None):
    """A model with dropout, its optimizer after one eager step, and the step itself."""
    gg.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 5)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = getattr(gg.optim, name)(model.parameters(), **(options or {}))

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    batches = [(gg.randn(8, 3, 4), gg.randint(0, 5, (8,))) for _ in range(6)]
    step(*batches[0])
    return model, optimizer, step, batches[1:]


@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_training_steps_are_bit_equal_to_eager(name, options):
    model, _, step, batches = experiment(name, options)
    losses = [step(x, y).item() for x, y in batches]
    traced, _, step, batches = experiment(name, options)
    program = trace(step, *batches[0])
    assert [run(program, x, y).item() for x, y in batches] == losses
    for p, q in zip(model.parameters(), traced.parameters(), strict=True):
        assert np.array_equal(p.detach().numpy(), q.detach().numpy())
        assert np.array_equal(p.grad.numpy(), q.grad.numpy())


def test_decompositions_agree_with_composite_kernels():
    model, _, step, batches = experiment()
    losses = [step(x, y).item() for x, y in batches]
    traced, _, step, batches = experiment()
    program = trace(step, *batches[0])
    found = [run(program, x, y, decomposed=True).item() for x, y in batches]
    assert found == pytest.approx(losses, rel=1e-5)
    for p, q in zip(model.parameters(), traced.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_the_graph_is_valid_and_reads_back_from_its_text():
    _, _, step, batches = experiment()
    graph = trace(step, *batches[0]).graph
    verify(graph, infer)
    assert parse(graph.text()) == graph
    assert "adam_update" in graph.text()


def test_tracing_changes_no_tensor():
    model, optimizer, step, batches = experiment()
    before = copy.deepcopy(model.state_dict())
    state = gg.get_rng_state().clone()
    trace(step, *batches[0])
    for key, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), before[key].numpy()), key
    assert np.array_equal(gg.get_rng_state().numpy(), state.numpy())
    assert {int(s["step"].item()) for s in optimizer.state.values()} == {1}


def test_random_numbers_continue_the_generator():
    gg.manual_seed(5)
    want = [gg.rand(3).tolist() for _ in range(3)]
    gg.manual_seed(5)
    program = trace(lambda: gg.rand(3))
    got = [run(program).tolist(), gg.rand(3).tolist(), run(program).tolist()]
    assert got == want


def test_gradients_accumulate_when_not_zeroed():
    w = gg.ones(3, requires_grad=True)
    x = gg.tensor([1.0, 2.0, 3.0])
    w.grad = gg.zeros(3)

    def step(x):
        loss = (w * x).sum()
        loss.backward()
        return loss

    program = trace(step, x)
    run(program, x)
    run(program, x)
    assert w.grad.tolist() == [2.0, 4.0, 6.0]


def test_writes_through_views_rewrite_their_base():
    def step(x):
        y = x * 1
        y[0] = 7
        row = y.view(2, 3)[1]
        row.mul_(2)
        y[:, 1] += 1
        return y, row, y.t()

    x = gg.arange(6.0).reshape(2, 3)
    got = run(trace(step, x), x)
    for a, b in zip(got, step(x), strict=True):
        assert a.tolist() == b.tolist()


def test_captured_buffers_are_written_back_through_views():
    buffer = gg.zeros(2, 3)

    def step(x):
        buffer[1].add_(x)
        return buffer.sum()

    program = trace(step, gg.ones(3))
    assert buffer.sum().item() == 0
    assert run(program, gg.ones(3)).item() == 3
    assert run(program, gg.ones(3)).item() == 6
    assert buffer.tolist() == [[0.0] * 3, [2.0] * 3]


def test_second_order_gradients_are_traced():
    w = gg.tensor([1.0, 2.0], requires_grad=True)

    def step(x):
        (g,) = gg.autograd.grad((w * x).pow(3).sum(), w, create_graph=True)
        return gg.autograd.grad((g * g).sum(), w)[0]

    x = gg.tensor([0.5, 0.25])
    assert run(trace(step, x), x).tolist() == step(x).tolist()


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x.detach().numpy(),
        lambda x: 1 if x.sum() > 0 else 2,
    ],
)
def test_looking_at_values_is_refused_with_the_line(look):
    with pytest.raises(TraceError, match=r"test_trace.py:\d+.*cannot look at"):
        trace(look, gg.ones(2))


def test_looking_at_captured_values_is_refused_too():
    w = gg.ones(2)
    with pytest.raises(TraceError, match="cannot look at"):
        trace(lambda x: x * w.sum().item(), gg.ones(2))


def test_shapes_that_depend_on_values_are_refused():
    with pytest.raises(TraceError, match="'nonzero' has a shape that depends on values"):
        trace(lambda x: x.nonzero(), gg.ones(2))


def test_a_leaked_symbolic_tensor_says_so():
    kept = []
    trace(lambda x: kept.append(x * 2), gg.ones(2))
    with pytest.raises(TraceError, match="traced"):
        kept[0] + 1


def test_a_failed_trace_leaves_nothing_behind():
    model, _, _, batches = experiment()
    model.zero_grad()

    def step(x, y):
        nn.functional.cross_entropy(model(x), y).backward()
        raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        trace(step, *batches[0])
    assert all(p.grad is None for p in model.parameters())
    assert isinstance((gg.ones(1) + 1).numpy(), np.ndarray)


def test_other_shapes_are_refused():
    program = trace(lambda x: x * 2, gg.ones(3))
    with pytest.raises(RuntimeError, match="trace again"):
        run(program, gg.ones(4))
