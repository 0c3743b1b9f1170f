"""Every layer compiled: outputs, gradients of inputs and parameters, and buffers as eager."""

import inspect

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from ganglion.tree import leaves

UNIT = {"float32": 3e-5, "float64": 1e-10}  # of the largest element
CALLS = 2  # after the second one, buffers have been read as well as written


def x(*shape):
    """Random numbers."""
    return lambda rng, dtype: np.asarray(rng.normal(size=shape)).astype(dtype)


def part(*shape):
    """Probabilities."""
    return lambda rng, dtype: np.asarray(rng.uniform(0.05, 0.95, shape)).astype(dtype)


def whole(below, *shape):
    """Class numbers and the like."""
    return lambda rng, dtype: np.asarray(rng.integers(0, below, shape))


def mask(*shape):
    """Truth values; the first of each row is False."""
    return lambda rng, dtype: (rng.random(shape) < 0.4) & (np.arange(shape[-1]) > 0)


LAYERS = [
    ("ELU", (0.7,), (x(3, 5),)),
    ("GELU", (), (x(3, 5),)),
    ("GELU", ("tanh",), (x(40),)),
    ("LeakyReLU", (0.2,), (x(3, 5),)),
    ("LogSoftmax", (1,), (x(3, 5),)),
    ("ReLU", (), (x(3, 5),)),
    ("ReLU", (True,), (x(3, 5),)),
    ("Sigmoid", (), (x(3, 5),)),
    ("SiLU", (), (x(33),)),
    ("Softmax", (-1,), (x(2, 3, 4),)),
    ("Tanh", (), (x(3, 5),)),
    ("MultiheadAttention", (6, 2), (x(3, 2, 6), x(4, 2, 6), x(4, 2, 6))),
    ("MultiheadAttention", (6, 2, 0.3), (x(3, 2, 6), x(3, 2, 6), x(3, 2, 6), mask(2, 3))),
    (
        "MultiheadAttention",
        {"embed_dim": 8, "num_heads": 2, "kdim": 5, "vdim": 7, "batch_first": True,
         "add_bias_kv": True, "add_zero_attn": True},
        (x(2, 3, 8), x(2, 4, 5), x(2, 4, 7)),
    ),
    ("BatchNorm1d", (5,), (x(4, 5),)),
    ("BatchNorm1d", (5, 1e-3, None), (x(4, 5, 6),)),
    ("BatchNorm2d", (3,), (x(2, 3, 4, 5),)),
    ("BatchNorm2d", (20, 1e-5, 0.3, False), (x(4, 20, 3, 3),)),
    ("BatchNorm3d", {"num_features": 2, "track_running_stats": False}, (x(2, 2, 3, 2, 2),)),
    ("GRUCell", (4, 5), (x(3, 4), x(3, 5))),
    ("LSTMCell", (4, 5, False), (x(3, 4),)),
    ("RNNCell", (4, 5, True, "relu"), (x(3, 4), x(3, 5))),
    ("Conv1d", (3, 4, 3), (x(2, 3, 9),)),
    ("Conv2d", (3, 4, 3, 1, 1), (x(2, 3, 6, 7),)),
    ("Conv2d", (16, 16, 3, 1, 1), (x(2, 16, 8, 8),)),
    ("Conv2d", {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "stride": 2,
                "padding": 1, "dilation": 2, "groups": 2, "bias": False}, (x(2, 4, 7, 8),)),
    ("Conv2d", {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": "same",
                "padding_mode": "reflect"}, (x(2, 4, 5, 5),)),
    ("Conv3d", (2, 3, 2), (x(1, 2, 4, 3, 4),)),
    ("ConvTranspose1d", (3, 4, 3, 2), (x(2, 3, 5),)),
    ("ConvTranspose2d", (4, 6, 3, 2, 1, 1, 2), (x(2, 4, 4, 3),)),
    ("ConvTranspose3d", (2, 2, 2), (x(1, 2, 3, 2, 3),)),
    ("Dropout", (0.4,), (x(20, 30),)),
    ("Flatten", (), (x(2, 3, 4),)),
    ("Identity", (), (x(2, 3),)),
    ("Linear", (5, 7), (x(3, 5),)),
    ("Linear", (40, 33, False), (x(2, 20, 40),)),
    ("Unflatten", (1, (2, 3)), (x(4, 6),)),
    ("BCELoss", (), (part(3, 4), part(3, 4))),
    ("BCEWithLogitsLoss", {"reduction": "sum"}, (x(3, 4), part(3, 4))),
    ("CrossEntropyLoss", (), (x(6, 5), whole(5, 6))),
    ("CrossEntropyLoss", {"label_smoothing": 0.1, "ignore_index": 2}, (x(2, 5, 3), whole(5, 2, 3))),
    ("HuberLoss", ("mean", 0.5), (x(3, 4), x(3, 4))),
    ("KLDivLoss", {"reduction": "batchmean"}, (x(3, 4), part(3, 4))),
    ("L1Loss", (), (x(3, 4), x(3, 4))),
    ("MSELoss", {"reduction": "none"}, (x(3, 4), x(3, 4))),
    ("NLLLoss", (), (x(6, 5), whole(5, 6))),
    ("SmoothL1Loss", {"beta": 0.3}, (x(3, 4), x(3, 4))),
    ("GroupNorm", (2, 6), (x(3, 6, 4),)),
    ("LayerNorm", (7,), (x(3, 7),)),
    ("LayerNorm", ((4, 3), 1e-4, False), (x(2, 4, 3),)),
    ("RMSNorm", (20,), (x(3, 5, 20),)),
    ("AdaptiveAvgPool1d", (4,), (x(2, 3, 9),)),
    ("AdaptiveAvgPool2d", ((3, None),), (x(2, 3, 7, 5),)),
    ("AdaptiveAvgPool3d", (2,), (x(1, 2, 5, 4, 3),)),
    ("AdaptiveMaxPool1d", (4,), (x(2, 3, 9),)),
    ("AdaptiveMaxPool2d", (3, True), (x(2, 3, 7, 5),)),
    ("AdaptiveMaxPool3d", (2,), (x(1, 2, 5, 4, 3),)),
    ("AvgPool1d", (3, 2, 1), (x(2, 3, 9),)),
    ("AvgPool2d", {"kernel_size": 3, "stride": 2, "ceil_mode": True, "count_include_pad": False,
                   "padding": 1}, (x(2, 3, 8, 7),)),
    ("AvgPool3d", (2,), (x(1, 2, 4, 4, 4),)),
    ("MaxPool1d", (3,), (x(2, 3, 9),)),
    ("MaxPool2d", {"kernel_size": 3, "stride": 2, "padding": 1, "return_indices": True},
     (x(2, 3, 8, 7),)),
    ("MaxPool2d", (2,), (x(2, 16, 8, 8),)),
    ("MaxPool3d", {"kernel_size": 2, "dilation": 2}, (x(1, 2, 5, 5, 5),)),
    ("GRU", {"input_size": 4, "hidden_size": 5, "num_layers": 2, "dropout": 0.3}, (x(6, 3, 4),)),
    ("LSTM", {"input_size": 4, "hidden_size": 5, "batch_first": True, "bidirectional": True},
     (x(3, 6, 4),)),
    ("LSTM", {"input_size": 4, "hidden_size": 6, "proj_size": 3}, (x(5, 2, 4),)),
    ("RNN", {"input_size": 4, "hidden_size": 5, "nonlinearity": "relu"}, (x(6, 3, 4), x(1, 3, 5))),
    ("Embedding", (10, 4), (whole(10, 3, 5),)),
    ("Embedding", {"num_embeddings": 9, "embedding_dim": 3, "padding_idx": 2,
                   "scale_grad_by_freq": True}, (whole(9, 4, 6),)),
]  # fmt: skip
ABSTRACT = {"Module", "RNNBase", "RNNCellBase", "ModuleDict", "ModuleList", "Sequential"}


def made(name, settings, dtype):
    """A layer with its own parameters, the same each time."""
    gg.manual_seed(3)
    kind = getattr(nn, name)
    layer = kind(**settings) if isinstance(settings, dict) else kind(*settings)
    return layer.to(getattr(gg, dtype))


def weighted(result):
    """A sum of all floating results, each element with a weight of its own."""
    total = gg.zeros((), dtype=gg.float64)
    for out in leaves(result):
        if out.dtype.is_floating_point:
            weights = gg.cos(gg.arange(out.numel(), dtype=gg.float64)).reshape(out.shape)
            total = total + (out.double() * weights).sum()
    return total


def seen(layer, arrays, training, compile):
    """Everything a few calls leave behind: results, gradients, buffers."""
    layer.train(training)
    inputs = [gg.tensor(a) for a in arrays]
    moved = [a for a in inputs if a.dtype.is_floating_point]

    def step(*given):
        result = layer(*(a.clone() for a in given))
        loss = weighted(result)
        if loss.requires_grad:
            loss.backward()
        return result

    call = gg.compile(step, keep_grads=True, fullgraph=True) if compile else step
    found = {}
    gg.manual_seed(5)
    for k in range(CALLS):
        for a in (*moved, *layer.parameters()):
            a.requires_grad_(True)
            a.grad = None
        for i, out in enumerate(leaves(call(*inputs))):
            found[f"result {i} of call {k}"] = out.detach().numpy()
        grads = [(f"input {i}", a.grad) for i, a in enumerate(moved)]
        grads += [(name, p.grad) for name, p in layer.named_parameters()]
        found |= {f"gradient of {name}, {k}": g.numpy() for name, g in grads if g is not None}
        found |= {f"buffer {name}, {k}": b.numpy().copy() for name, b in layer.named_buffers()}
    return found


def assert_close(mine, other, what):
    assert mine.dtype == other.dtype, what
    assert mine.shape == other.shape, what
    unit = UNIT.get(mine.dtype.name, 0)
    np.testing.assert_allclose(
        mine, other, rtol=unit, atol=unit * np.abs(other).max(initial=0), err_msg=what
    )


@pytest.fixture(autouse=True)
def _compiled_anew(monkeypatch):
    """Nothing is read back from disk."""
    monkeypatch.setenv("GANGLION_CACHE_MB", "0")


def named(case):
    name, settings, _ = case
    return f"{name}-{settings}".replace(" ", "")


def check(case, dtype, training):
    name, settings, makers = case
    rng = np.random.default_rng(1)
    arrays = [make(rng, dtype) for make in makers]
    eager = seen(made(name, settings, dtype), arrays, training, compile=False)
    compiled = seen(made(name, settings, dtype), arrays, training, compile=True)
    assert eager.keys() == compiled.keys()
    for what, value in eager.items():
        assert_close(compiled[what], value, what)


@pytest.mark.parametrize("case", LAYERS, ids=named)
def test_layers_in_training(case):
    check(case, "float64", training=True)


@pytest.mark.parametrize("case", LAYERS, ids=named)
def test_layers_in_evaluation(case):
    check(case, "float32", training=False)


@pytest.mark.full
@pytest.mark.parametrize("case", LAYERS, ids=named)
def test_layers_in_the_other_precision(case):
    check(case, "float32", training=True)
    check(case, "float64", training=False)


def test_every_layer_is_compiled_here():
    kinds = {
        name
        for name in nn.__all__
        if inspect.isclass(kind := getattr(nn, name)) and issubclass(kind, nn.Module)
    }
    assert kinds - ABSTRACT == {name for name, _, _ in LAYERS}


def test_containers():
    def container():
        gg.manual_seed(2)
        parts = nn.ModuleDict({"first": nn.Linear(4, 6), "rest": nn.ModuleList([nn.Tanh()])})
        return nn.Sequential(parts["first"], *parts["rest"], nn.BatchNorm1d(6)).double()

    arrays = [np.random.default_rng(0).normal(size=(5, 4))]
    eager = seen(container(), arrays, training=True, compile=False)
    compiled = seen(container(), arrays, training=True, compile=True)
    for what, value in eager.items():
        assert_close(compiled[what], value, what)
