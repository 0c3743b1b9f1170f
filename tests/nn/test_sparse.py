"""Embeddings against PyTorch's."""

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn
from tests.nn.twins import close, twins

INDEX = np.array([[1, 4, 1], [0, 1, 3]])
OPTIONS = [
    {},
    {"padding_idx": 1},
    {"padding_idx": -1},
    {"scale_grad_by_freq": True},
    {"max_norm": 1.0},
    {"max_norm": 1.0, "norm_type": 1.0, "padding_idx": 3},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_embeddings_equal_pytorchs(options):
    torch = pytest.importorskip("torch")
    mine, other = twins("Embedding", 5, 4, **options)
    assert repr(mine) == repr(other)
    found, expected = mine(gg.tensor(INDEX)), other(torch.tensor(INDEX))
    close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    close(mine.weight.grad, other.weight.grad)
    close(mine.weight, other.weight, "scaled down in place")


def test_the_padding_row_starts_as_zero_and_others_from_the_normal_law():
    gg.manual_seed(0)
    weight = nn.Embedding(1000, 16, padding_idx=2).weight.detach().numpy()
    assert (weight[2] == 0).all()
    assert weight.std() == pytest.approx(1, rel=0.02)


def test_pretrained_tables():
    table = gg.arange(6.0).reshape(3, 2)
    frozen = nn.Embedding.from_pretrained(table, padding_idx=-1)
    assert not frozen.weight.requires_grad
    assert frozen.padding_idx == 2
    assert frozen(gg.tensor([1])).tolist() == [[2, 3]]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    with pytest.raises(RuntimeError, match="2-dimensional"):
        nn.Embedding.from_pretrained(gg.randn(3))


def test_sparse_gradients_are_dense():
    layer = nn.Embedding(4, 2, sparse=True)
    assert repr(layer) == "Embedding(4, 2, sparse=True)"
    layer(gg.tensor([3])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0]] * 3 + [[1, 1]]


def test_refused_arguments():
    with pytest.raises(ValueError, match="Padding_idx must be within num_embeddings"):
        nn.Embedding(3, 4, padding_idx=3)
    with pytest.raises(RuntimeError, match="does not match num_embeddings"):
        nn.Embedding(3, 4, _weight=gg.randn(4, 4))
    with pytest.raises(IndexError, match=r"3 rows takes indices in \[0, 2\], got 7"):
        nn.Embedding(3, 4)(gg.tensor([7]))


def test_second_order_gradients_reach_the_output_gradient():
    layer, weights = nn.Embedding(3, 2, padding_idx=0), gg.randn(2, 2, requires_grad=True)
    index = gg.tensor([0, 2])
    (grad,) = gg.autograd.grad((layer(index) * weights).sum(), layer.weight, create_graph=True)
    (again,) = gg.autograd.grad(grad.square().sum(), weights)
    close(again[1], 2 * weights[1])
    assert again[0].tolist() == [0, 0]
