"""What the op table's walk does not see of views, joins and cuts: shared memory, identity, cost."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import AutogradError, ShapeError

VIEWS = {
    "view": lambda x: x.view(-1),
    "reshape": lambda x: x.reshape(6, 4),
    "flatten": lambda x: x.flatten(1),
    "unflatten": lambda x: x.unflatten(-1, (2, 2)),
    "squeeze": lambda x: x.squeeze(0),
    "unsqueeze": lambda x: x.unsqueeze(1),
    "permute": lambda x: x.permute(2, 0, 1),
    "transpose": lambda x: x.transpose(0, 1),
    "movedim": lambda x: x.movedim(0, -1),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "expand": lambda x: x.unsqueeze(0).expand(2, 2, 3, 4),
    "broadcast_to": lambda x: gg.broadcast_to(x, (2, 2, 3, 4)),
    "diagonal": lambda x: x.diagonal(0, 1, 2),
    "unfold": lambda x: x.unfold(1, 2, 1),
    "as_strided": lambda x: x.as_strided((2, 2), (1, 3), 2),
    "narrow": lambda x: x.narrow(2, 1, 2),
    "select": lambda x: x.select(1, 2),
    "split": lambda x: x.split(2, 2)[1],
    "chunk": lambda x: x.chunk(2, 0)[1],
    "unbind": lambda x: x.unbind(1)[1],
    "item": lambda x: x[1],
    "slice": lambda x: x[:, 1:, ::2],
    "ellipsis": lambda x: x[..., None, 0],
    "detach": lambda x: x.detach(),
    "bytes": lambda x: x.view(gg.int32),
    "atleast_3d": lambda x: gg.atleast_3d(x[0])[1],
    "iteration": lambda x: next(iter(x)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_storage_and_version(name):
    x = gg.arange(24.0).reshape(2, 3, 4)
    y = VIEWS[name](x)
    assert np.shares_memory(x.numpy(), y.numpy())
    before = y._version
    x.mul_(2)
    assert y._version == before + 1


@pytest.mark.parametrize("name", sorted(set(VIEWS) - {"expand", "broadcast_to", "unfold", "bytes"}))
def test_writing_into_a_view_writes_its_base(name):
    x = gg.arange(24.0).reshape(2, 3, 4)
    expected = x.numpy().copy()
    VIEWS[name](gg.from_numpy(expected)).numpy()[...] = -1
    y = VIEWS[name](x)
    y.fill_(-1)
    np.testing.assert_array_equal(x.numpy(), expected)


@pytest.mark.parametrize(
    "copy",
    [
        lambda x: x.clone(),
        lambda x: x.flip(0),
        lambda x: x.roll(1),
        lambda x: x.rot90(0),
        lambda x: x.repeat(1, 1),
        lambda x: x.repeat(3, 1)[:2],
        lambda x: x.repeat_interleave(1, 0),
        lambda x: gg.cat([x]),
        lambda x: gg.stack([x])[0],
        gg.diag,
        lambda x: x.tril(),
        lambda x: x[[0, 1]],
        lambda x: x[x > -1],
        lambda x: x.t().reshape(-1),
        lambda x: x.t().contiguous(),
        lambda x: gg.nn.functional.pad(x, (0, 0)),
    ],
)
def test_copies_do_not_share_memory(copy):
    x = gg.arange(6.0).reshape(2, 3)
    copy(x).fill_(-1)
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_reshape_copies_only_where_strides_do_not_allow_a_view():
    x = gg.arange(24.0).reshape(2, 3, 4)
    assert np.shares_memory(x[:, :, 0].reshape(6).numpy(), x.numpy())
    assert not np.shares_memory(x.transpose(0, 1).reshape(24).numpy(), x.numpy())


def test_contiguous_returns_a_contiguous_tensor_itself():
    x = gg.ones(2, 3)
    assert x.contiguous() is x
    assert x.t().contiguous().is_contiguous()


def test_view_of_another_dtype_shares_bytes():
    x = gg.tensor([1.0, -2.0])
    bits = x.view(gg.int32)
    bits[0] = 0
    assert x.tolist() == [0.0, -2.0]
    assert x.view(gg.uint8).shape == (8,)
    with pytest.raises(ShapeError, match="bytes divide"):
        gg.zeros(3, dtype=gg.float32).view(gg.float64)


def test_as_strided_counts_from_the_storage_of_the_base():
    x = gg.arange(10.0)
    assert x[4:].as_strided((2,), (1,)).tolist() == [4, 5]
    assert x[4:].as_strided((2,), (1,), 0).tolist() == [0, 1]


def test_as_strided_refuses_a_storage_that_is_not_row_major():
    x = gg.from_numpy(np.asfortranarray(np.ones((2, 3))))
    with pytest.raises(ShapeError, match="contiguous"):
        x.as_strided((2,), (1,))


def test_in_place_shapes_change_the_tensor_itself():
    x = gg.ones(1, 3)
    y = x.squeeze_(0)
    assert y is x
    assert x.shape == (3,)
    assert x.unsqueeze_(1).t_().transpose_(0, 1).shape == (3, 1)


def test_in_place_shapes_keep_history():
    w = gg.ones(2, 3, requires_grad=True)
    x = w * 2
    x.unsqueeze_(0).transpose_(1, 2)
    (x * gg.arange(6.0).reshape(1, 3, 2)).sum().backward()
    assert w.grad.tolist() == [[0, 4, 8], [2, 6, 10]]


def test_resize_keeps_elements_in_row_major_order():
    x = gg.arange(6).reshape(2, 3)
    assert x.resize_(4).tolist() == [0, 1, 2, 3]
    assert x.resize_(2, 4).shape == (2, 4)
    assert x.flatten()[:4].tolist() == [0, 1, 2, 3]
    assert x.resize_(0).shape == (0,)


def test_detach_in_place_drops_history():
    w = gg.ones(2, requires_grad=True)
    x = w * 2
    assert x.detach_() is x
    assert not x.requires_grad
    with pytest.raises(AutogradError, match="views in-place"):
        (w * 2)[0].detach_()


def test_gradients_of_pieces_are_joined_once():
    w = gg.ones(4, 6, requires_grad=True)
    a, b, c = (w * 1).chunk(3, 1)
    assert a.grad_fn is b.grad_fn
    (a * 1 + c * 3).sum().backward()
    assert w.grad[0].tolist() == [1, 1, 0, 0, 3, 3]
    assert b.shape == (4, 2)


def test_a_piece_may_be_written_though_it_has_brothers():
    w = gg.ones(4, requires_grad=True)
    x = w * 1
    a, b = x.chunk(2)
    a.mul_(3)
    (x.sum() + b.sum()).backward()
    assert w.grad.tolist() == [3, 3, 2, 2]


def test_cat_writes_into_out():
    out = gg.empty(0)
    assert gg.cat([gg.ones(1, 2), gg.zeros(1, 2)], out=out) is out
    assert out.tolist() == [[1, 1], [0, 0]]


def test_cat_refuses_a_tensor_where_a_sequence_is_meant():
    with pytest.raises(TypeError, match="must be tuple of Tensors, not Tensor"):
        gg.cat(gg.ones(2, 2))


def test_names_that_stand_for_others():
    assert gg.concat is gg.cat
    assert gg.swapaxes is gg.transpose
    assert gg.moveaxis is gg.movedim
    assert gg.Tensor.swapdims is gg.Tensor.transpose


def test_iterating_gives_slices_through_which_gradients_flow():
    w = gg.arange(3.0).requires_grad_()
    total = gg.zeros(())
    for i, x in enumerate(w):
        total = total + x * i
    total.backward()
    assert w.grad.tolist() == [0, 1, 2]
