"""Matrix products: exactness, memory, error texts, gradients of the layouts they choose."""

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ShapeError
from ganglion.ops.matmul import LINEAR, MATMUL, linear
from ganglion.shapes import Meta


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_integers_are_exact_and_wrap_around(dtype):
    big = gg.tensor([[2**40, 3]] if dtype == "int64" else [[200, 3]], dtype=getattr(gg, dtype))
    expected = big.numpy() @ big.numpy().T
    assert (big @ big.t()).tolist() == expected.tolist()


def test_half_precision_sums_in_float32():
    x = gg.ones(1, 4096, dtype=gg.float16)
    assert (x @ x.t()).item() == 4096
    y = gg.full((1, 3000), 0.1, dtype=gg.bfloat16)
    exact = 3000 * float(y[0, 0]) ** 2
    assert (y @ y.t()).item() == pytest.approx(exact, rel=2**-8)


@pytest.mark.parametrize("tx", [False, True])
@pytest.mark.parametrize("ty", [False, True])
def test_every_transposed_form_is_closed_under_differentiation(tx, ty):
    rng = np.random.default_rng(0)
    x = gg.tensor(rng.standard_normal((4, 3) if tx else (3, 4)), requires_grad=True)
    y = gg.tensor(rng.standard_normal((5, 4) if ty else (4, 5)), requires_grad=True)
    w = gg.tensor(rng.standard_normal((3, 5)))
    (MATMUL(x, y, tx=tx, ty=ty) * w).sum().backward()
    a, b = (x.numpy(force=True), y.numpy(force=True))
    a, b = (a.T if tx else a), (b.T if ty else b)
    ga, gb = w.numpy() @ b.T, a.T @ w.numpy()
    np.testing.assert_allclose(x.grad.numpy(), ga.T if tx else ga)
    np.testing.assert_allclose(y.grad.numpy(), gb.T if ty else gb)


def test_operators_and_methods_are_the_function():
    x, y = gg.rand(2, 3), gg.rand(3, 2)
    expected = gg.matmul(x, y).tolist()
    assert (x @ y).tolist() == x.mm(y).tolist() == expected
    out = gg.empty(2, 2)
    assert gg.mm(x, y, out=out) is out
    assert out.tolist() == expected


def test_linear_is_its_decomposition():
    x, w, b = gg.rand(2, 3, 4), gg.rand(5, 4), gg.rand(5)
    parts = LINEAR.decompose(x, w, b)
    np.testing.assert_allclose(linear(x, w, b).numpy(), parts.numpy(), rtol=1e-6)
    np.testing.assert_allclose(linear(x, w).numpy(), (x @ w.t()).numpy(), rtol=1e-6)


def test_linear_does_not_touch_its_bias_or_input():
    x, w, b = gg.rand(2, 4), gg.rand(5, 4), gg.rand(5)
    before = [t.tolist() for t in (x, w, b)]
    linear(x, w, b)
    assert [t.tolist() for t in (x, w, b)] == before


def test_a_folded_batch_gives_one_weight_gradient():
    x, w = gg.rand(7, 5, 3), gg.rand(3, 2).requires_grad_()
    (x @ w).sum().backward()
    expected = x.numpy().reshape(-1, 3).sum(axis=0)
    np.testing.assert_allclose(w.grad.numpy(), np.stack([expected] * 2, axis=1), rtol=1e-5)


def test_multi_dot_multiplies_in_the_cheapest_order():
    shapes = []

    class Counted(type(gg.dispatch.mode.listener)):
        def bind(self, op, inputs, params):
            if op is MATMUL:
                shapes.append((tuple(inputs[0].shape), tuple(inputs[1].shape)))
            return super().bind(op, inputs, params)

    with gg.dispatch.listening(Counted()):
        gg.linalg.multi_dot([gg.ones(10, 100), gg.ones(100, 5), gg.ones(5, 50)])
    assert shapes == [((10, 100), (100, 5)), ((10, 5), (5, 50))]


def test_flops_count_multiplications_and_additions():
    x, w = Meta((32, 784), gg.float32), Meta((128, 784), gg.float32)
    assert LINEAR.flops(x, w, None) == 2 * 32 * 784 * 128
    assert MATMUL.flops(x, w, tx=False, ty=True) == 2 * 32 * 784 * 128
    batch = Meta((6, 4, 3), gg.float32)
    assert MATMUL.flops(batch, batch, tx=True, ty=False) == 2 * 6 * 3 * 3 * 4


def test_the_error_names_both_shapes():
    with pytest.raises(ShapeError, match=r"mat1 and mat2 shapes cannot be multiplied \(32x64 and"):
        gg.ones(32, 64) @ gg.ones(128, 10)
    with pytest.raises(ShapeError, match=r"\(32x64 and 128x10\)"):
        linear(gg.ones(32, 64), gg.ones(10, 128))
    with pytest.raises(ShapeError, match=r"weight \(out, in\)"):
        linear(gg.ones(3, 4), gg.ones(4))


def test_einsum_of_many_operands_drops_labels_as_soon_as_it_can():
    x, y, z = gg.rand(2, 30), gg.rand(30, 3), gg.rand(3, 4)
    found = gg.einsum("ij,jk,kl->il", x, y, z)
    np.testing.assert_allclose(found.numpy(), (x @ y @ z).numpy(), rtol=1e-5)


def test_einsum_gradients_reach_every_operand():
    operands = [gg.rand(3, 4, requires_grad=True), gg.rand(4, 3, requires_grad=True)]
    gg.einsum("ij,ji->", *operands).backward()
    assert operands[0].grad.tolist() == operands[1].t().tolist()
    assert operands[1].grad.tolist() == operands[0].t().tolist()
