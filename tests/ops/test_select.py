import pytest

import ganglion


def leaf(*values):
    return ganglion.tensor(values, requires_grad=True)


def test_copying_lets_gradients_flow_to_the_source_alone():
    x, source = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 1
    assert y.copy_(source) is y
    (y * y).sum().backward()
    assert source.grad.tolist() == [6.0, 8.0]
    assert x.grad.tolist() == [0.0, 0.0]


def test_copying_converts_and_broadcasts():
    target = ganglion.zeros(2, 3, dtype=ganglion.int32)
    target.copy_(ganglion.tensor([1.7, -1.7, 2.0]))
    assert target.tolist() == [[1, -1, 2], [1, -1, 2]]


def test_filling_cuts_the_history_but_stays_differentiable():
    x = leaf(1.0, 2.0)
    y = (x * 3).fill_(7)
    (y.sum() + x.sum()).backward()
    assert y.tolist() == [7.0, 7.0]
    assert x.grad.tolist() == [1.0, 1.0]


def test_filling_a_view_leaves_the_rest_of_its_base():
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[1:].zero_()
    y.sum().backward()
    assert y.tolist() == [2.0, 0.0, 0.0]
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


def test_a_leaf_that_requires_grad_is_not_written():
    for write in (lambda x: x.fill_(0), lambda x: x.copy_(leaf(1.0)), lambda x: x.add_(1)):
        with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
            write(leaf(1.0))


def test_without_grad_mode_a_leaf_is_written():
    x = leaf(1.0, 2.0)
    with ganglion.no_grad():
        x.copy_(ganglion.zeros(2))
        x.add_(1)
    assert x.tolist() == [1.0, 1.0]
    assert x.requires_grad
    assert x.is_leaf
