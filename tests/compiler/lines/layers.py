"""Lines with kernels of their own: products, convolutions, pooling, norms, attention, losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ganglion as gg
from ganglion.nn import functional as F
from tests.compiler.lines.fitting import filled, jittered, shaped, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found


def numbers(x: Tensor, *shape: int) -> Tensor:
    """Weights that depend on what they weigh a little."""
    return shaped(x, shape) * 0.7


def product(draw: Drawing, x: Tensor) -> Found:
    if x.ndim < 2 or x.numel() * max(x.shape[-2:]) > 4_000_000:
        return None
    other = draw.among(lambda y: y.ndim == 2 and y.shape[0] == x.shape[-1] and y.dtype is x.dtype)
    if other is not None and draw.often(0.6):
        return "matmul", lambda x, y: x @ y * (1 / max(x.shape[-1], 1)), (other,)
    name = draw.pick(list(PRODUCTS))
    return name, PRODUCTS[name], ()


PRODUCTS: dict[str, Callable[[Tensor], Tensor]] = {
    "gram": lambda x: x.mT @ x * (1 / max(x.shape[-2], 1)),
    "outer gram": lambda x: x @ x.mT * (1 / max(x.shape[-1], 1)),
    "linear": lambda x: F.linear(x, numbers(x, 9, x.shape[-1]), numbers(x, 9)),
    "vector": lambda x: x @ numbers(x, x.shape[-1]),
    "from the left": lambda x: numbers(x, x.shape[-2]) @ x,
    "batched": lambda x: numbers(x, 3, *(1,) * (x.ndim - 2), 2, x.shape[-2]) @ x,
    "einsum": lambda x: gg.einsum("...ij,...ik->...kj", x, gg.sin(x)) * 0.1,
    "addmm": lambda x: gg.addmm(
        numbers(x, 5), x.flatten(0, -2), numbers(x, x.shape[-1], 5), beta=0.5, alpha=0.3),
}  # fmt: skip


def convolved(draw: Drawing, x: Tensor) -> Found:
    if x.ndim not in (3, 4) or not x.numel() or x.numel() > 20_000:
        return None
    spatial, channels = x.ndim - 2, x.shape[1]
    size, stride, pad, dilation = (draw.pick(c) for c in ((1, 2, 3), (1, 1, 2), (0, 1), (1, 1, 2)))
    groups = draw.pick([g for g in (1, 1, 2, channels) if channels % g == 0])
    backwards = draw.often(0.2)
    if min(x.shape[2:]) + 2 * pad < dilation * (size - 1) + 1:
        return None
    way = f"conv_transpose{spatial}d" if backwards else f"conv{spatial}d"
    call = getattr(F, way)
    options = {"stride": stride, "padding": pad if not backwards else 0, "dilation": dilation,
               "groups": groups}  # fmt: skip
    outs = draw.pick((2, 3, 16))
    shape = (channels, outs) if backwards else (outs * groups, channels // groups)
    bias = outs * groups if draw.often(0.5) else 0

    def run(x: Tensor) -> Tensor:
        weight = numbers(x, *shape, *(size,) * spatial)
        return call(x, weight, numbers(x, bias) if bias else None, **options) * 0.3

    return f"{way} {shape} {size} {options} {bias}", run, ()


def pooled(draw: Drawing, x: Tensor) -> Found:
    if x.ndim not in (3, 4) or not x.numel() or x.numel() > 50_000:
        return None
    n = x.ndim - 2
    name = draw.pick(("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"))
    call = getattr(F, f"{name}{n}d")
    size = draw.pick((1, 2, 3))
    options: dict[str, Any] = {}
    if not name.startswith("adaptive"):
        options = {"stride": draw.pick((1, 2, 3)), "padding": size // 2 * draw.pick((0, 1)),
                   "ceil_mode": draw.often(0.3)}  # fmt: skip
        if min(x.shape[2:]) < size:
            return None
    fill = apart if "max" in name else (lambda x: x)
    return f"{name} {size} {options}", lambda x: call(fill(x), size, **options), ()


def apart(x: Tensor) -> Tensor:
    return shaped(x, tuple(x.shape))


def normed(draw: Drawing, x: Tensor) -> Found:
    if x.ndim < 2 or not x.numel() or x.numel() > 50_000:
        return None
    rules: dict[str, Callable[[Tensor], Tensor]] = {
        "layer_norm": lambda x: F.layer_norm(x, tuple(x.shape[-1:])),
        "layer_norm of two": lambda x: F.layer_norm(
            x, tuple(x.shape[-2:]), numbers(x, *x.shape[-2:]), numbers(x, *x.shape[-2:])),
        "rms_norm": lambda x: F.rms_norm(x, tuple(x.shape[-1:]), numbers(x, x.shape[-1]), eps=0.1),
        "group_norm": lambda x: F.group_norm(gg.cat([x, gg.sin(x)], 1), 1, eps=0.1),
        "batch_norm": lambda x: F.batch_norm(
            gg.cat([x, x + 1]), None, None, numbers(x, x.shape[1]), numbers(x, x.shape[1]),
            training=True, eps=0.1),
        "batch_norm at rest": lambda x: F.batch_norm(
            x, gg.zeros(x.shape[1], dtype=x.dtype), gg.ones(x.shape[1], dtype=x.dtype),
            training=False),
    }  # fmt: skip
    name = draw.pick(list(rules))
    return name, rules[name], ()


def attended(draw: Drawing, x: Tensor) -> Found:
    if x.ndim not in (3, 4) or not x.numel() or x.numel() > 5000:
        return None
    causal, width = draw.often(0.5), draw.pick((x.shape[-1], 5))
    other = x.shape[-2] if causal else draw.pick((x.shape[-2], 7))

    def run(x: Tensor) -> Tensor:
        key = numbers(x, *x.shape[:-2], other, x.shape[-1])
        value = numbers(x, *x.shape[:-2], other, width)
        return F.scaled_dot_product_attention(x, key, value, is_causal=causal)

    return f"attention {causal} {width} {other}", run, ()


LOSSES: dict[str, Callable[[Tensor, str], Tensor]] = {
    "mse_loss": lambda x, r: F.mse_loss(x, gg.sin(x), reduction=r),
    "l1_loss": lambda x, r: F.l1_loss(jittered(x) + 3, x, reduction=r),
    "smooth_l1_loss": lambda x, r: F.smooth_l1_loss(jittered(x), x * 0.5, reduction=r),
    "huber_loss": lambda x, r: F.huber_loss(jittered(x), x * 0.5, reduction=r, delta=0.7),
    "bce": lambda x, r: F.binary_cross_entropy_with_logits(x, gg.sigmoid(x * 2), reduction=r),
    "kl_div": lambda x, r: F.kl_div(-F.softplus(-x), gg.sigmoid(x), reduction=r),
    "gaussian": lambda x, r: (x - jittered(x)).square().log1p().sum(),
}


def lost(draw: Drawing, x: Tensor) -> Found:
    reduction = draw.pick(("mean", "sum", "none"))
    if filled(x) and x.ndim in (2, 3) and draw.often(0.4):
        options = {"reduction": reduction, "label_smoothing": draw.pick((0.0, 0.1)),
                   "ignore_index": draw.pick((-100, 1))}  # fmt: skip

        def run(x: Tensor) -> Tensor:
            shape = (x.shape[0], *x.shape[2:])
            target = whole(shaped(x.detach(), shape) * 3, x.shape[1])
            return gg.nan_to_num(F.cross_entropy(x, target, **options))

        return f"cross_entropy {options}", run, ()
    if not x.numel():
        return None
    name = draw.pick(list(LOSSES))
    return f"{name} {reduction}", lambda x: LOSSES[name](x, reduction), ()
