"""The small GPT."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler import interpret, trace
from ganglion.models import gpt
from ganglion.nn import functional as F


def tokens(*shape, below=11):
    return np.random.default_rng(0).integers(0, below, shape)


def test_shapes_and_number_of_parameters():
    net = gpt(65, 128, layers=4, heads=4, context=128)
    block = 2 * 256 + (128 * 384 + 384) + (128 * 128 + 128) + 2 * 128 * 512 + 512 + 128
    expected = 65 * 128 * 2 + 128 * 128 + 4 * block + 256
    assert sum(p.numel() for p in net.parameters()) == expected
    assert net(gg.tensor(tokens(2, 7))).shape == (2, 7, 65)


def theirs(torch, net, index):
    """The same network in PyTorch's functions, on the same weights."""
    w = {k: torch.tensor(v.numpy(), requires_grad=True) for k, v in net.state_dict().items()}
    f = torch.nn.functional

    def linear(x, name):
        return f.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    def norm(x, name):
        return f.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    batch, steps = index.shape
    x = f.embedding(torch.tensor(index), w["tokens.weight"]) + w["positions.weight"][:steps]
    for i in range(len(net.blocks)):
        b, heads = f"blocks.{i}", net.blocks[i].attention.heads
        q, k, v = linear(norm(x, f"{b}.norm1"), f"{b}.attention.qkv").chunk(3, -1)
        q, k, v = (a.reshape(batch, steps, heads, -1).transpose(1, 2) for a in (q, k, v))
        seen = f.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(seen.transpose(1, 2).reshape(x.shape), f"{b}.attention.out")
        x = x + linear(f.gelu(linear(norm(x, f"{b}.norm2"), f"{b}.mlp.0")), f"{b}.mlp.2")
    return f.linear(norm(x, "norm"), w["head.weight"]), w


def test_outputs_and_gradients_equal_pytorchs():
    torch = pytest.importorskip("torch")
    gg.manual_seed(0)
    net, index = gpt(11, 12, layers=2, heads=3, context=9).double(), tokens(2, 7)
    logits = net(gg.tensor(index))
    expected, weights = theirs(torch, net, index)
    np.testing.assert_allclose(logits.detach().numpy(), expected.detach().numpy(), rtol=1e-9)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), gg.tensor(index[:, 1:]).flatten()).backward()
    target = torch.tensor(index[:, 1:]).flatten()
    torch.nn.functional.cross_entropy(expected[:, :-1].flatten(0, 1), target).backward()
    for name, parameter in net.named_parameters():
        grad = weights[name].grad.numpy()
        np.testing.assert_allclose(parameter.grad.numpy(), grad, rtol=1e-8, atol=1e-12)


def test_no_position_sees_a_later_one():
    net, index = gpt(11, 8, layers=2, heads=2, context=6).eval(), tokens(1, 6)
    before = net(gg.tensor(index))
    index[0, 4] = (index[0, 4] + 1) % 11
    after = net(gg.tensor(index))
    assert (before[:, :4] == after[:, :4]).all()
    assert not (before[:, 4:] == after[:, 4:]).all()


def test_weights_start_from_the_papers_law():
    gg.manual_seed(0)
    net = gpt(65, 64, layers=8, heads=4, context=32)
    weights = {name: p.detach().numpy() for name, p in net.named_parameters()}
    assert weights["tokens.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert weights["blocks.3.mlp.0.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert weights["blocks.3.mlp.2.weight"].std() == pytest.approx(0.005, rel=0.05)
    assert weights["blocks.3.attention.out.weight"].std() == pytest.approx(0.005, rel=0.05)
    assert not weights["blocks.3.attention.qkv.bias"].any()
    assert (weights["norm.weight"] == 1).all()


def test_refused_arguments():
    with pytest.raises(ValueError, match="width of 10 does not divide into 4 heads"):
        gpt(5, 10, 1, 4, 8)
    with pytest.raises(RuntimeError, match=r"context of 8, got shape \(1, 9\)"):
        gpt(5, 8, 1, 2, 8)(gg.zeros(1, 9, dtype=gg.int64))


def test_it_learns_to_repeat():
    gg.manual_seed(0)
    net = gpt(5, 16, layers=1, heads=2, context=8)
    optimizer = gg.optim.AdamW(net.parameters(), lr=0.01)
    index = gg.tensor(np.arange(8)[None] % 5)
    for _ in range(60):
        loss = F.cross_entropy(net(index)[:, :-1].flatten(0, 1), index[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_a_traced_training_step_equals_an_eager_one():
    """With dropout: attention weights and activations drop the same elements."""
    gg.manual_seed(0)
    net, index = gpt(11, 12, layers=2, heads=3, context=7, dropout=0.2), gg.tensor(tokens(2, 7))

    def step(index):
        logits = net(index)
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), index[:, 1:].flatten())
        return loss, *gg.autograd.grad(loss, net.parameters())

    program = trace.trace(step, index)
    gg.manual_seed(1)
    expected = step(index)
    for decomposed in (False, True):
        gg.manual_seed(1)
        found = interpret.run(program, index, decomposed=decomposed)
        for a, b in zip(found, expected, strict=True):
            tolerance = 1e-4 if decomposed else 0
            a, b = a.detach().numpy(), b.detach().numpy()
            np.testing.assert_allclose(a, b, tolerance, tolerance / 100)
