"""Attention beyond the table: dropout, half precision, rows that see nothing, long sequences."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.nn import functional as F
from ganglion.ops.attention import ATTENTION, ROWS
from ganglion.ops.random import dropout_mask


def qkv(*lead, length=5, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return [
        gg.tensor(rng.normal(size=(*lead, length, width)), requires_grad=True) for _ in range(3)
    ]


def plain(q, k, v, keep=None):
    """The definition, in ops."""
    weights = F.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1)
    return (weights if keep is None else weights * keep) @ v


def test_dropout_multiplies_the_weights_by_one_draw():
    q, k, v = qkv(2, 3)
    found = []
    for run in (
        lambda: F.scaled_dot_product_attention(q, k, v, dropout_p=0.4),
        lambda: plain(q, k, v, dropout_mask((2, 3, 5, 5), 0.4, q.dtype)),
    ):
        gg.manual_seed(5)
        out = run()
        found.append([out, *gg.autograd.grad(out.square().sum(), [q, k, v])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_log_sums_stay_in_float32():
    q, k, v = (x.detach().to(gg.bfloat16) for x in qkv(2))
    out, lse = ATTENTION(q, k, v, None, None, causal=False, scale=0.5)
    assert out.dtype is gg.bfloat16
    assert lse.dtype is gg.float32
    exact = (q.double() @ k.double().mT * 0.5).logsumexp(-1)
    np.testing.assert_allclose(lse.numpy(), exact.numpy(), rtol=1e-6)


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_half_precision_gradients_are_those_of_the_rounded_inputs(dtype):
    half = [x.detach().to(dtype).requires_grad_() for x in qkv(2)]
    wide = [x.detach().double().requires_grad_() for x in half]
    for x in (half, wide):
        F.scaled_dot_product_attention(*x).sum().backward()
    for a, b in zip(half, wide, strict=True):
        close = {"rtol": 0.02, "atol": 0.01}
        np.testing.assert_allclose(a.grad.double().numpy(), b.grad.numpy(), **close)


def test_a_row_that_sees_nothing_is_zero_and_passes_no_gradient():
    q, k, v = qkv(2)
    seen = gg.ones(5, 5).bool()
    seen[2] = False
    out = F.scaled_dot_product_attention(q, k, v, seen)
    out.square().sum().backward()
    assert not out[:, 2].any()
    assert not q.grad[:, 2].any()
    assert all(bool(x.grad.isfinite().all()) for x in (q, k, v))


def test_values_that_are_not_finite_stay_visible():
    q, k, v = (x.detach() for x in qkv(1))
    k[0, 3, 1] = float("nan")
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert bool(out[0, :3].isfinite().all())
    assert bool(out[0, 3:].isnan().all())


@pytest.mark.parametrize("length", [ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5])
def test_blocks_of_rows_fit_together(length):
    x = qkv(2, length=length)
    found = []
    for run in (F.scaled_dot_product_attention, plain):
        out = run(*x)
        found.append([out, *gg.autograd.grad(out.square().sum(), x)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-9, atol=1e-12)
