"""Recurrent networks against PyTorch's, with all their options."""

import copy
import itertools

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.nn.utils.rnn import pack_padded_sequence, pack_sequence
from tests.nn.twins import close, twins

STEPS, BATCH, I, H = 5, 3, 4, 6  # noqa: E741 - sizes
NAMES = ("RNN", "LSTM", "GRU")
OPTIONS = [
    {},
    {"bias": False},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
]
MODELS = [
    *itertools.product(NAMES, OPTIONS),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("LSTM", {"proj_size": 2}),
    ("LSTM", {"proj_size": 3, "num_layers": 2, "bidirectional": True, "bias": False}),
]
every_model = pytest.mark.parametrize(("name", "options"), MODELS, ids=str)


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("f")


def initial(lib, model, batch=(BATCH,)):
    """Initial states and the leaves among them."""
    layers = model.num_layers * (2 if model.bidirectional else 1)
    sizes = [model.proj_size or H, H] if isinstance(model, lib.nn.LSTM) else [H]
    leaves = [
        lib.tensor(drawn(layers, *batch, size, seed=i), requires_grad=True)
        for i, size in enumerate(sizes)
    ]
    return (tuple(leaves) if len(leaves) > 1 else leaves[0]), leaves


def listed(states):
    return list(states) if isinstance(states, tuple) else [states]


def outcome(model, x, hx, leaves, run):
    """Output, final states and all gradients."""
    output, final = run(model, x, hx)
    outs = [output, *listed(final)]
    sum((out * out).sum() for out in outs).backward()
    given = [t.grad for t in (x, *leaves) if t is not None]
    return [*outs, *given, *(p.grad for p in model.parameters())]


def compare(mine, other, array, run=lambda model, x, hx: model(x, hx), batch=(BATCH,), states=True):
    torch = pytest.importorskip("torch")
    found = []
    for lib, model in ((gg, mine), (torch, other)):
        hx, leaves = initial(lib, model, batch) if states else (None, [])
        x = lib.tensor(array, requires_grad=True)
        found.append(outcome(model, x, hx, leaves, run))
    for a, b in zip(*found, strict=True):
        close(a, b)


@every_model
@pytest.mark.parametrize("states", [True, False], ids=["states", "zeros"])
def test_networks_equal_pytorchs(name, options, states):
    mine, other = twins(name, I, H, **options)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    shape = (BATCH, STEPS, I) if mine.batch_first else (STEPS, BATCH, I)
    compare(mine, other, drawn(*shape), states=states)


@every_model
def test_unbatched_inputs(name, options):
    mine, other = twins(name, I, H, **options)
    compare(mine, other, drawn(STEPS, I), batch=())
    mine, other = twins(name, I, H, **options)
    compare(mine, other, drawn(STEPS, I), states=False)


@every_model
@pytest.mark.parametrize("lengths", [[5, 3, 1], [2, 5, 4], [4, 4, 4]], ids=str)
def test_packed_sequences(name, options, lengths):
    mine, other = twins(name, I, H, **options)
    shape = (BATCH, STEPS, I) if mine.batch_first else (STEPS, BATCH, I)

    def run(model, x, hx):
        lib = gg if isinstance(x, gg.Tensor) else pytest.importorskip("torch")
        tools = lib.nn.utils.rnn
        packed = tools.pack_padded_sequence(
            x, lengths, batch_first=model.batch_first, enforce_sorted=False
        )
        out, final = model(packed, hx)
        return tools.pad_packed_sequence(out, model.batch_first)[0], final

    compare(mine, other, drawn(*shape), run)
    mine.zero_grad()
    other.zero_grad()
    compare(mine, other, drawn(*shape), run, states=False)


def test_what_stands_beyond_a_sequences_end_changes_nothing():
    model = nn.LSTM(I, H, 2, bidirectional=True)
    x = drawn(STEPS, 2, I)
    found = []
    for filling in (0.0, 1e6):
        x[2:, 1] = filling
        out, (h, c) = model(pack_padded_sequence(gg.tensor(x), [5, 2]))
        out.data.sum().backward()
        found.append([out.data, h, c, *(p.grad.clone() for p in model.parameters())])
        model.zero_grad()
    for a, b in zip(*found, strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("name", NAMES)
def test_dropout_acts_between_layers_while_training(name):
    gg.manual_seed(0)
    model, x = getattr(nn, name)(I, H, 2, dropout=0.5), gg.randn(STEPS, BATCH, I)
    assert not (model(x)[0] == model(x)[0]).all()
    model.eval()
    assert (model(x)[0] == model(x)[0]).all()
    certain = getattr(nn, name)(I, H, 2, dropout=1.0, bias=False)
    assert not certain(x)[0].any()
    assert certain.eval()(x)[0].any()


@pytest.mark.parametrize("name", NAMES)
def test_parameters_start_from_pytorchs_law(name):
    gg.manual_seed(0)
    for parameter in getattr(nn, name)(30, 64, 2, bidirectional=True).parameters():
        values = parameter.detach().numpy()
        assert abs(values).max() <= 1 / 8
        assert values.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_second_order_gradients(name):
    torch = pytest.importorskip("torch")
    mine, other = (model.double() for model in twins(name, I, H, 2, bidirectional=True))
    found = []
    for lib, model in ((gg, mine), (torch, other)):
        x = lib.tensor(drawn(STEPS, BATCH, I).astype("d"), requires_grad=True)
        weights = list(model.parameters())
        out, final = model(x)
        loss = out.square().sum() + listed(final)[-1].sum()
        grads = lib.autograd.grad(loss, [x, *weights], create_graph=True)
        total = sum(g.square().sum() for g in grads)
        found.append(lib.autograd.grad(total, [x, *weights]))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-9)


def test_final_states_may_be_detached_in_place():
    model, x = nn.LSTM(I, H), gg.randn(STEPS, BATCH, I)
    _, states = model(x)
    for state in states:
        state.detach_()
    out, _ = model(x, states)
    out.sum().backward()


def test_weights_by_layer_and_copies():
    model = nn.LSTM(I, H, 2, bias=False, proj_size=2)
    assert [len(own) for own in model.all_weights] == [3, 3]
    assert model.all_weights[1][0] is model.weight_ih_l1
    twin, x = copy.deepcopy(model), gg.randn(STEPS, BATCH, I)
    model.flatten_parameters()
    assert (twin(x)[0] == model(x)[0]).all()
    twin.weight_ih_l0 = nn.Parameter(twin.weight_ih_l0.detach() * 0)
    assert not (twin(x)[0] == model(x)[0]).all()


def hidden(*shape):
    return gg.zeros(*shape)


REFUSED = [
    (lambda: nn.LSTM(4, 6, proj_size=6), ValueError, "smaller than hidden_size"),
    (lambda: nn.LSTM(4, 6, proj_size=-1), ValueError, "positive integer or zero"),
    (lambda: nn.GRU(0, 6), ValueError, "input_size must be greater than zero"),
    (lambda: nn.GRU(4, 0), ValueError, "hidden_size must be greater than zero"),
    (lambda: nn.GRU(4, 6, 0), ValueError, "num_layers must be greater than zero"),
    (lambda: nn.GRU(4, 6.0), TypeError, "hidden_size should be of type int"),
    (lambda: nn.GRU(4, 6, bias=1), TypeError, "bias should be of type bool"),
    (lambda: nn.GRU(4, 6, 2, dropout=1.5), ValueError, r"range \[0, 1\]"),
    (lambda: nn.GRU(4, 6, 2, dropout=True), ValueError, r"range \[0, 1\]"),
    (lambda: nn.RNN(4, 6, nonlinearity="sine"), ValueError, "Select from 'tanh' or 'relu'"),
    (lambda: nn.RNNBase("CNN", 4, 6), ValueError, "Unrecognized RNN mode: CNN"),
    (lambda: nn.GRU(4, 6)(gg.randn(4)), ValueError, "GRU: Expected input to be 2D or 3D, got 1D"),
    (lambda: nn.GRU(4, 6)(gg.randn(5, 3, 7)), RuntimeError, "Expected 4, got 7"),
    (lambda: nn.GRU(4, 6)(gg.randn(0, 3, 4)), RuntimeError, "larger than 0"),
    (lambda: nn.GRU(4, 6)(gg.randn(5, 3, 4).double()), ValueError, "does not match weight dtype"),
    (lambda: nn.GRU(4, 6)(gg.randn(5, 3, 4), hidden(3, 6)), RuntimeError, "should also be 3-D"),
    (lambda: nn.GRU(4, 6)(gg.randn(5, 4), hidden(1, 1, 6)), RuntimeError, "should also be 2-D"),
    (lambda: nn.GRU(4, 6)(gg.randn(5, 3, 4), hidden(1, 2, 6)), RuntimeError, r"size \(1, 3, 6\)"),
    (lambda: nn.LSTM(4, 6)(gg.randn(5, 3, 4), (hidden(1, 3, 6), hidden(1, 3, 5))), RuntimeError,
     r"Expected hidden\[1\] size \(1, 3, 6\), got \[1, 3, 5\]"),
    (lambda: nn.LSTM(4, 6)(gg.randn(5, 3, 4), hidden(1, 3, 6)), ValueError, "takes 2 initial"),
    (lambda: nn.LSTM(4, 6)(pack_sequence([gg.randn(2, 7)])), RuntimeError, "Expected 4, got 7"),
    (lambda: nn.GRU(4, 6)(pack_sequence([gg.randn(2, 4)]), hidden(1, 2, 6)), RuntimeError,
     r"size \(1, 1, 6\)"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "match"), REFUSED)
def test_refused_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_dropout_of_a_single_layer_warns():
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        nn.GRU(4, 6, dropout=0.5)
