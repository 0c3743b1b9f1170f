"""Lines that work on each element."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ganglion as gg
from ganglion.nn import functional as F
from tests.compiler.lines.fitting import broadcasts, jittered

if TYPE_CHECKING:
    from ganglion.tensor import Tensor
    from tests.compiler.lines.fitting import Drawing, Found

UNARY = {
    "tanh": gg.tanh,
    "sin": gg.sin,
    "sigmoid": gg.sigmoid,
    "exp": lambda x: gg.exp(gg.tanh(x)),
    "log": lambda x: gg.log(x * x + 0.5),
    "sqrt": lambda x: gg.sqrt(x * x + 0.5),
    "neg": lambda x: -x,
    "square": lambda x: x * x,
    "cube": lambda x: x**3,
    "power": lambda x: (x * x + 0.5) ** 0.7,
    "rsqrt": lambda x: gg.rsqrt(x * x + 0.5),
    "reciprocal": lambda x: 1 / (x * x + 0.5),
    "gelu": F.gelu,
    "silu": F.silu,
    "softplus": F.softplus,
    "elu": lambda x: F.elu(jittered(x)),
    "leaky_relu": lambda x: F.leaky_relu(jittered(x), 0.1),
    "relu": lambda x: gg.relu(jittered(x)),
    "abs": lambda x: gg.abs(jittered(x)),
    "clamp": lambda x: gg.clamp(jittered(x), -0.5, 0.8),
    "floor": lambda x: gg.floor(jittered(x) * 3) * 0.1 + x,
    "erf": gg.erf,
    "atan": gg.atan,
    "scaled": lambda x: x * 0.37 - 1.25,
    "dropped": lambda x: F.dropout(x, 0.3),
    "noisy": lambda x: x + gg.rand_like(x),
    "normal": lambda x: x * gg.randn(x.shape, dtype=x.dtype),
    "stopped": lambda x: x.detach() * x,
    "copied": lambda x: x.clone(),
    "itself": lambda x: x.contiguous(),
}
BINARY = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 0.5),
    "maximum": lambda x, y: gg.maximum(jittered(x), y),
    "minimum": lambda x, y: gg.minimum(jittered(x), y),
    "atan2": lambda x, y: gg.atan2(jittered(x), y * y + 0.3),
    "hypot": lambda x, y: gg.hypot(x, y.to(x.dtype) * 0.5 + 20),
    "addcmul": lambda x, y: gg.addcmul(x, y, y, value=0.3),
    "addcdiv": lambda x, y: gg.addcdiv(x, y.to(x.dtype), (y * y + 0.5).to(x.dtype), value=0.3),
    "lerp": lambda x, y: gg.lerp(x, y.to(x.dtype), 0.25),
    "masked": lambda x, y: x.masked_fill(jittered(y.double()) > 0.5, 0.25),
    "gated": lambda x, y: gg.where(jittered(y.double()) > 0, x, 0.5),
}


def unary(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(list(UNARY))
    return name, UNARY[name], ()


def binary(draw: Drawing, x: Tensor) -> Found:
    other = draw.among(lambda y: broadcasts(x, y) and y.dtype is not gg.bool)
    name = draw.pick(list(BINARY))
    return None if other is None else (name, BINARY[name], (other,))


def chosen(draw: Drawing, x: Tensor) -> Found:
    mask = draw.among(lambda y: not y.dtype.is_floating_point and broadcasts(x, y))
    if mask is None:
        return None
    both = x + draw.values[mask]
    other = draw.among(lambda y: broadcasts(both, y) and y.dtype is x.dtype)
    if other is None:
        return None

    def run(x: Tensor, m: Tensor, y: Tensor) -> Tensor:
        return gg.where(m if m.dtype is gg.bool else m % 2 == 0, x, y)

    return "where", run, (mask, other)


def of_dtype(draw: Drawing, x: Tensor) -> Found:
    name = draw.pick(("float32", "float64", "float64", "float16", "bfloat16"))
    return f"to {name}", lambda x: x.to(getattr(gg, name)), ()


def truth(draw: Drawing, x: Tensor) -> Found:
    return "compared", lambda x: jittered(x) > 0.05, ()
