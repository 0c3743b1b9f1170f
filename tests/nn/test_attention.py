"""Multi-head attention against PyTorch's, with all its options."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import close, twins

L, S, N, E, HEADS = 3, 4, 2, 6, 2
LAYERS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    {"kdim": 5, "vdim": 7},
    {"kdim": 5, "batch_first": True, "bias": False},
    {"batch_first": True},
]
PADDING = np.array([[False, False, True, False], [False, True, True, False]])
HIDDEN = np.triu(np.ones((L, S), bool), 1)
EACH = np.stack([np.roll(HIDDEN, i, 1) for i in range(N * HEADS)])


def number(mask):
    return np.where(mask, -1.5, 0.25).astype("f")


CALLS = [
    {},
    {"need_weights": False},
    {"average_attn_weights": False},
    {"key_padding_mask": PADDING},
    {"key_padding_mask": PADDING, "need_weights": False},
    {"key_padding_mask": number(PADDING)},
    {"attn_mask": HIDDEN},
    {"attn_mask": HIDDEN, "need_weights": False},
    {"attn_mask": HIDDEN, "is_causal": True, "need_weights": False},
    {"attn_mask": HIDDEN, "is_causal": True},
    {"attn_mask": number(HIDDEN), "need_weights": False},
    {"attn_mask": EACH},
    {"attn_mask": EACH, "need_weights": False},
    {"attn_mask": number(EACH), "key_padding_mask": number(PADDING), "need_weights": False},
    {"attn_mask": EACH & ~EACH[0], "key_padding_mask": PADDING, "is_causal": True},
    {"attn_mask": HIDDEN & ~HIDDEN[0], "key_padding_mask": PADDING, "need_weights": False},
]


def inputs(layer, batched=True):
    """Query, key and value as the layer wants them."""
    rng = np.random.default_rng(0)
    shapes = [(L, N, E), (S, N, layer.kdim), (S, N, layer.vdim)]
    found = [rng.normal(size=shape).astype("f") for shape in shapes]
    if not batched:
        return [x[:, 0] for x in found]
    return [x.swapaxes(0, 1) for x in found] if layer.batch_first else found


def compare(mine, other, arrays, kwargs):
    torch = pytest.importorskip("torch")
    x = [gg.tensor(a, requires_grad=True) for a in arrays]
    y = [torch.tensor(a, requires_grad=True) for a in arrays]
    tensors = {k: v for k, v in kwargs.items() if isinstance(v, np.ndarray)}
    out, weights = mine(*x, **kwargs | {k: gg.tensor(v) for k, v in tensors.items()})
    expected, shares = other(*y, **kwargs | {k: torch.tensor(v) for k, v in tensors.items()})
    close(out, expected, "output")
    assert (weights is None) == (shares is None)
    if shares is not None:
        close(weights, shares, "weights")
    out.square().sum().backward()
    expected.square().sum().backward()
    for (name, p), q in zip(mine.named_parameters(), other.parameters(), strict=True):
        close(p.grad, q.grad, name)
    for a, b in zip(x, y, strict=True):
        close(a.grad, b.grad, "inputs")


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call) or "plain")
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_modules_equal_pytorchs(options, call):
    mine, other = twins("MultiheadAttention", E, HEADS, **options)
    assert list(mine.state_dict()) == list(other.state_dict())
    compare(mine, other, inputs(mine), call)


@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_unbatched_inputs(options):
    mine, other = twins("MultiheadAttention", E, HEADS, **options)
    arrays = inputs(mine, batched=False)
    compare(mine, other, arrays, {"key_padding_mask": PADDING[0]})
    compare(mine, other, arrays, {"attn_mask": EACH[:HEADS], "average_attn_weights": False})
    compare(mine, other, arrays, {"need_weights": False})


@pytest.mark.parametrize("batch_first", [False, True])
def test_self_attention_and_shared_keys_and_values(batch_first):
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).normal(size=(N, L, E)).astype("f")
    mine, other = twins("MultiheadAttention", E, HEADS, batch_first=batch_first)
    x, y = gg.tensor(values), torch.tensor(values)
    close(mine(x, x, x)[0], other(y, y, y)[0])
    close(mine(x * 2, x, x)[0], other(y * 2, y, y)[0])
    with torch.no_grad():  # where PyTorch has a path of its own
        close(mine.eval()(x, x, x)[0], other.eval()(y, y, y)[0])


def test_static_keys_and_values():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    q, weight, out = rng.normal(size=(L, N, E)), rng.normal(size=(3 * E, E)), np.eye(E)
    static = rng.normal(size=(N * HEADS, 5, E // HEADS))

    def run(lib):
        x, w, o, s = (lib.tensor(a.astype("f")) for a in (q, weight, out, static))
        function = lib.nn.functional.multi_head_attention_forward
        return function(
            x, x, x, E, HEADS, w, None, None, None, False, 0.0, o, None, static_k=s, static_v=s
        )

    for found, expected in zip(run(gg), run(torch), strict=True):
        close(found, expected)


def test_dropout_acts_on_the_weights_while_training():
    gg.manual_seed(0)
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.5), gg.randn(20, 3, 8)
    _, weights = layer(x, x, x, average_attn_weights=False)
    assert 0.4 < float((weights == 0).float().mean()) < 0.6
    assert float(weights.sum(-1).mean()) == pytest.approx(1, abs=0.05)
    _, weights = layer.eval()(x, x, x)
    close(weights.sum(-1), gg.ones(3, 20))


def test_both_paths_drop_the_same_weights():
    layer, x = nn.MultiheadAttention(8, 2, dropout=0.5), gg.randn(5, 3, 8)
    found = []
    for need_weights in (False, True):
        gg.manual_seed(3)
        found.append(layer(x, x, x, need_weights=need_weights)[0])
    close(*found)


def test_parameters_start_from_pytorchs_laws():
    gg.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4, add_bias_kv=True)
    weight = layer.in_proj_weight.detach().numpy()
    assert abs(weight).max() <= np.sqrt(6 / (4 * 64))
    assert weight.std() == pytest.approx(np.sqrt(2 / (4 * 64)), rel=0.03)
    assert not layer.in_proj_bias.any()
    assert not layer.out_proj.bias.any()
    assert layer.bias_k.std().item() == pytest.approx(np.sqrt(2 / (64 + 64)), rel=0.3)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nn.MultiheadAttention(6, 4), ValueError, "must be divisible by num_heads"),
        (lambda: nn.MultiheadAttention(0, 1), ValueError, "greater than 0"),
        (lambda: run((3,), (3,), (3,)), RuntimeError, "2D or batched 3D"),
        (lambda: run((3, 2, 6), (4, 6), (4, 2, 6)), RuntimeError, "to be 3-D but found 2-D"),
        (lambda: run((3, 2, 6), (4, 2, 6), (5, 2, 6)), RuntimeError, "does not match value shape"),
        (lambda: run((3, 2, 8), (4, 2, 6), (4, 2, 6)), RuntimeError, "dimension of 6, but got 8"),
        (lambda: run(*FINE, key_padding_mask=gg.ones(2, 3).bool()), RuntimeError, r"\(2, 4\), but"),
        (lambda: run(*FINE, key_padding_mask=gg.ones(4).bool()), RuntimeError, "or 2-D but found"),
        (lambda: run(*FINE, attn_mask=gg.ones(3, 3).bool()), RuntimeError, r"should be \(3, 4\)"),
        (lambda: run(*FINE, attn_mask=gg.ones(3, 3, 4)), RuntimeError, r"or \(4, 3, 4\)"),
        (lambda: run(*FINE, attn_mask=gg.ones(3, 4).int()), RuntimeError, "only bool and floating"),
        (lambda: run(*FINE, is_causal=True), ValueError, "Need attn_mask"),
    ],
)  # fmt: skip
def test_refused_arguments(call, error, match):
    with pytest.raises(error, match=match):
        call()


FINE = ((3, 2, 6), (4, 2, 6), (4, 2, 6))


def run(*shapes, **kwargs):
    return nn.MultiheadAttention(6, 2)(*(gg.randn(*shape) for shape in shapes), **kwargs)


def test_mismatched_masks_warn():
    with pytest.warns(UserWarning, match="mismatched key_padding_mask and attn_mask"):
        run(*FINE, attn_mask=gg.zeros(3, 4), key_padding_mask=gg.zeros(2, 4).bool())


def test_second_order_gradients():
    torch = pytest.importorskip("torch")
    mine, other = twins("MultiheadAttention", E, HEADS)
    arrays = [a.astype("d") for a in inputs(mine)]
    found = []
    for lib, layer in ((gg, mine.double()), (torch, other.double())):
        x = [lib.tensor(a, requires_grad=True) for a in arrays]
        loss = layer(*x)[0].square().sum()  # PyTorch's fused kernel has no second order
        grads = lib.autograd.grad(loss, x, create_graph=True)
        total = sum(g.square().sum() for g in grads)
        found.append(lib.autograd.grad(total, [*x, *layer.parameters()]))
    for a, b in zip(*found, strict=True):
        close(a, b)
    x = [gg.tensor(a, requires_grad=True) for a in arrays]
    loss = mine(*x, need_weights=False)[0].square().sum()
    grads = gg.autograd.grad(loss, x, create_graph=True)
    total = sum(g.square().sum() for g in grads)
    for a, b in zip(gg.autograd.grad(total, [*x, *mine.parameters()]), found[1], strict=True):
        close(a, b, "fused")
