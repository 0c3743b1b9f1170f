"""Activation functions, with kernels and gradient kernels of few passes over memory.

Kernels work in place on ``np.empty_like`` scratch, which also serves 0-d arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ganglion.dispatch import write
from ganglion.errors import ArgumentError, DTypeError
from ganglion.ops import scalar, transcendental
from ganglion.ops.composite import through
from ganglion.ops.elementwise import Array, choose, joined, of_one
from ganglion.ops.error_function import erf_array, erf_scalar
from ganglion.ops.record import Op, in_place
from ganglion.ops.scalar import Scalar
from ganglion.ops.select import WHERE

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _served(input: Tensor, value: Tensor, inplace: bool) -> Tensor:
    return write(input, value) if inplace else value


def _gradient(name: str, kernel: Any, ops: Any, vjp: Any = None, scalar: Any = None) -> Op:
    """The op ``name_grad(x or output, g)``: one kernel, with its meaning written in ops."""
    return Op(
        f"{name}_grad",
        "elementwise",
        kernel,
        joined,
        vjp=vjp or through(ops),
        saves="xy" if vjp else "*",
        decompose=ops,
        scalar=scalar,
    )


def _of_output(name: str, kernel: Any, gradient: Op, ops: Any, scalar: Any) -> Op:
    """An activation whose gradient is computed from its output."""
    rule = (lambda s, g: gradient(s.out, g),)
    return Op(
        name, "elementwise", kernel, joined, vjp=rule, saves="o", promote="float", decompose=ops,
        scalar=scalar,
    )  # fmt: skip


def _of_input(name: str, kernel: Any, gradient: Op, ops: Any, scalar: Any = None) -> Op:
    """An activation whose gradient is computed from its input."""
    rule = (lambda s, g: gradient(s.x, g, **s.params),)
    return Op(
        name, "elementwise", kernel, joined, vjp=rule, saves="x", promote="float", decompose=ops,
        scalar=scalar,
    )  # fmt: skip


# --- relu -----------------------------------------------------------------------------------------

_SIGNED = {2: np.int16, 4: np.int32, 8: np.int64}


def _relu(x: Array) -> Any:
    if x.dtype.kind == "b":
        raise DTypeError("Boolean inputs not supported for relu")
    return x.clip(0, math.inf) if x.dtype.kind == "f" else np.maximum(x, 0)


def _relu_grad(out: Array, g: Array) -> Array:
    """``g`` where ``out`` is not 0: exact (no 0 * inf) by masking bits, and free of branches."""
    kind = _SIGNED[out.itemsize]
    bits = np.abs(out, out=np.empty_like(out)).view(kind)
    np.negative(bits, out=bits)
    np.right_shift(bits, 8 * out.itemsize - 1, out=bits)
    np.bitwise_and(bits, g.view(kind), out=bits)
    return bits.view(out.dtype)


RELU_GRAD: Op = _gradient(
    "relu",
    _relu_grad,
    lambda out, g: WHERE(out <= 0, 0, g),
    vjp=(None, lambda s, h: RELU_GRAD(s.x, h)),
    scalar=lambda out, g: scalar.where(out <= 0, 0.0, g),
)
RELU = Op(
    "relu",
    "elementwise",
    _relu,
    joined,
    vjp=(lambda s, g: RELU_GRAD(s.out, g),),
    saves="o",
    scalar=lambda x: scalar.maximum(x, 0),
)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``; NaN stays, and the gradient at 0 is 0."""
    value = RELU(input)
    return write(input, value) if inplace else value


relu_ = in_place(relu)


# --- sigmoid and tanh -----------------------------------------------------------------------------


def sigmoid_array(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, with full relative accuracy on both sides."""
    out = np.negative(x, out=np.empty_like(x))
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.reciprocal(out, out=out)


def _sigmoid_grad(out: Array, g: Array) -> Array:
    d = np.subtract(1, out, out=np.empty_like(out))
    np.multiply(d, out, out=d)
    return np.multiply(d, g, out=d)


def _tanh_grad(out: Array, g: Array) -> Any:
    d = np.square(out, out=np.empty_like(out))
    np.subtract(1, d, out=d)
    return np.multiply(d, g, out=d)


SIGMOID_GRAD: Op = _gradient(
    "sigmoid",
    _sigmoid_grad,
    lambda out, g: g * out * (1 - out),
    vjp=(lambda s, h: h * s.y * (1 - s.x * 2), lambda s, h: SIGMOID_GRAD(s.x, h)),
)
TANH_GRAD: Op = _gradient(
    "tanh",
    _tanh_grad,
    lambda out, g: g * (1 - out * out),
    vjp=(lambda s, h: h * s.y * s.x * -2, lambda s, h: TANH_GRAD(s.x, h)),
)
SIGMOID = _of_output(
    "sigmoid",
    sigmoid_array,
    SIGMOID_GRAD,
    lambda x: 1 / (1 + (-x).exp()),
    transcendental.sigmoid,
)
TANH = _of_output("tanh", np.tanh, TANH_GRAD, None, transcendental.tanh)

sigmoid = of_one(SIGMOID, "``1 / (1 + exp(-input))``.")
tanh = of_one(TANH, "The hyperbolic tangent.")


# --- silu and mish: x times a smooth gate ---------------------------------------------------------


def _silu(x: Array) -> Array:
    out = sigmoid_array(x)
    return np.multiply(out, x, out=out)


def _silu_grad(x: Array, g: Array) -> Array:
    s = sigmoid_array(x)
    d = np.subtract(1, s, out=np.empty_like(s))
    np.multiply(d, x, out=d)
    np.add(d, 1, out=d)
    np.multiply(d, s, out=d)
    return np.multiply(d, g, out=d)


def _silu_grad_ops(x: Tensor, g: Tensor) -> Tensor:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


def _mish_gate(x: Array) -> Any:
    """``tanh(log(1 + e^x)) = w / (w + 2)`` with ``w = e^x (e^x + 2)``."""
    w = x.clip(-math.inf, 20, out=np.empty_like(x))  # beyond it the gate is 1
    np.exp(w, out=w)
    np.multiply(w, w + 2, out=w)
    return np.divide(w, w + 2, out=w)


def _mish(x: Array) -> Any:
    out = _mish_gate(x)
    return np.multiply(out, x, out=out)


def _mish_grad(x: Array, g: Array) -> Array:
    gate = _mish_gate(x)
    d = sigmoid_array(x)
    np.multiply(d, x, out=d)
    np.multiply(d, 1 - np.square(gate), out=d)
    np.add(d, gate, out=d)
    return np.multiply(d, g, out=d)


def _mish_ops(x: Tensor) -> Tensor:
    return x * tanh(softplus(x))


def _mish_grad_ops(x: Tensor, g: Tensor) -> Tensor:
    gate = tanh(softplus(x))
    return g * (gate + x * sigmoid(x) * (1 - gate * gate))


def _mish_gate_scalar(x: Scalar) -> Scalar:
    power = transcendental.exp(scalar.minimum(x, 20.0))
    w = power * (power + 2)
    return w / (w + 2)


def _mish_grad_scalar(x: Scalar, g: Scalar) -> Scalar:
    gate = _mish_gate_scalar(x)
    return g * (gate + x * transcendental.sigmoid(x) * (1 - gate * gate))


SILU_GRAD = _gradient("silu", _silu_grad, _silu_grad_ops)
MISH_GRAD = _gradient("mish", _mish_grad, _mish_grad_ops, scalar=_mish_grad_scalar)
SILU = _of_input(
    "silu",
    _silu,
    SILU_GRAD,
    lambda x: x * sigmoid(x),
    lambda x: x / (transcendental.exp(-x) + 1),
)
MISH = _of_input("mish", _mish, MISH_GRAD, _mish_ops, lambda x: x * _mish_gate_scalar(x))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``, also called swish (Elfwing et al. 2017, arXiv:1702.03118)."""
    return _served(input, SILU(input), inplace)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * tanh(softplus(input))`` (Misra 2019, arXiv:1908.08681)."""
    return _served(input, MISH(input), inplace)


# --- gelu -----------------------------------------------------------------------------------------

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_PI = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _normal_cdf(x: Array) -> Array:
    cdf = np.multiply(x, _ROOT_HALF, out=np.empty_like(x))
    erf_array(cdf, out=cdf)
    np.add(cdf, 1, out=cdf)
    return np.multiply(cdf, 0.5, out=cdf)


def _tanh_cdf(x: Array) -> Any:
    """``(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``."""
    cdf = np.square(x, out=np.empty_like(x))
    np.multiply(cdf, _CUBIC * _ROOT_2_PI, out=cdf)
    np.add(cdf, _ROOT_2_PI, out=cdf)
    np.multiply(cdf, x, out=cdf)
    np.tanh(cdf, out=cdf)
    np.add(cdf, 1, out=cdf)
    return np.multiply(cdf, 0.5, out=cdf)


_CDF: dict[str, Callable[[Array], Array]] = {"none": _normal_cdf, "tanh": _tanh_cdf}


def _gelu(x: Array, approximate: str) -> Array:
    out = _CDF[approximate](x)
    return np.multiply(out, x, out=out)


def _gelu_grad(x: Array, g: Array, approximate: str) -> Array:
    cdf = _CDF[approximate](x)
    d = np.square(x, out=np.empty_like(x))
    if approximate == "none":  # the normal density
        np.multiply(d, -0.5, out=d)
        np.exp(d, out=d)
        np.multiply(d, 0.5 * _ROOT_2_PI, out=d)
    else:  # the slope of tanh, times that of the polynomial inside
        np.multiply(d, 6 * _CUBIC * _ROOT_2_PI, out=d)
        np.add(d, 2 * _ROOT_2_PI, out=d)
        np.multiply(d, cdf * (1 - cdf), out=d)
    np.multiply(d, x, out=d)
    np.add(d, cdf, out=d)
    return np.multiply(d, g, out=d)


def _cdf_ops(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return ((x * _ROOT_HALF).erf() + 1) * 0.5
    return (tanh((x + x * x * x * _CUBIC) * _ROOT_2_PI) + 1) * 0.5


def _gelu_grad_ops(x: Tensor, g: Tensor, approximate: str) -> Tensor:
    cdf = _cdf_ops(x, approximate)
    if approximate == "none":
        slope = (x * x * -0.5).exp() * (0.5 * _ROOT_2_PI)
    else:
        slope = cdf * (1 - cdf) * (x * x * (6 * _CUBIC * _ROOT_2_PI) + 2 * _ROOT_2_PI)
    return g * (cdf + x * slope)


def _gelu_scalar(x: Scalar, approximate: str) -> Scalar:
    if approximate == "none":
        bend = erf_scalar(x * _ROOT_HALF)
    else:
        bend = transcendental.tanh(x * scalar.fma(x * x, _CUBIC * _ROOT_2_PI, _ROOT_2_PI))
    half = x * 0.5
    return scalar.fma(half, bend, half)


GELU_GRAD = _gradient("gelu", _gelu_grad, _gelu_grad_ops)
GELU = _of_input(
    "gelu",
    _gelu,
    GELU_GRAD,
    lambda x, approximate: x * _cdf_ops(x, approximate),
    _gelu_scalar,
)


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """``input`` times the normal distribution function, or its ``"tanh"`` approximation.

    Hendrycks and Gimpel 2016, arXiv:1606.08415.
    """
    if approximate not in _CDF:
        raise ArgumentError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return GELU(input, approximate=approximate)  # type: ignore[no-any-return]


# --- two pieces: linear above 0 -------------------------------------------------------------------


def _leaky_relu(x: Array, slope: float) -> Any:
    out = np.multiply(x, slope, out=np.empty_like(x))
    return np.maximum(x, out, out=out) if 0 < slope <= 1 else choose(x > 0, x, out)


def _leaky_relu_grad(x: Array, g: Array, slope: float) -> Any:
    return choose(x > 0, g, g * x.dtype.type(slope))


def _elu(x: Array, alpha: float) -> Any:
    out = x.clip(-math.inf, 0, out=np.empty_like(x))
    np.expm1(out, out=out)
    if alpha != 1:
        np.multiply(out, alpha, out=out)
    return np.add(out, x.clip(0, math.inf), out=out)


def _elu_grad(x: Array, g: Array, alpha: float) -> Any:
    d = x.clip(-math.inf, 0, out=np.empty_like(x))
    np.exp(d, out=d)  # 1 above 0
    if alpha != 1:
        d = choose(x > 0, 1, d * x.dtype.type(alpha))
    return np.multiply(d, g, out=d)


LEAKY_RELU_GRAD = _gradient(
    "leaky_relu", _leaky_relu_grad, lambda x, g, slope: WHERE(x > 0, g, g * slope)
)
ELU_GRAD = _gradient(
    "elu", _elu_grad, lambda x, g, alpha: g * WHERE(x > 0, 1, x.clamp(max=0).exp() * alpha)
)
LEAKY_RELU = _of_input(
    "leaky_relu", _leaky_relu, LEAKY_RELU_GRAD, lambda x, slope: WHERE(x > 0, x, x * slope)
)
ELU = _of_input(
    "elu", _elu, ELU_GRAD, lambda x, alpha: WHERE(x > 0, x, x.clamp(max=0).expm1() * alpha)
)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``input`` above 0, ``negative_slope * input`` below."""
    return _served(input, LEAKY_RELU(input, slope=float(negative_slope)), inplace)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` above 0, ``alpha * (exp(input) - 1)`` below (Clevert et al. 2015, 1511.07289)."""
    return _served(input, ELU(input, alpha=float(alpha)), inplace)


# --- softplus -------------------------------------------------------------------------------------


def _softplus(x: Array, beta: float, threshold: float) -> Array:
    out = np.multiply(x, beta, out=np.empty_like(x))
    linear = out > threshold
    np.exp(out, out=out)
    np.log1p(out, out=out)
    np.divide(out, beta, out=out)
    np.copyto(out, x, where=linear)
    return out


def _softplus_grad(x: Array, g: Array, beta: float, threshold: float) -> Array:
    scaled = np.multiply(x, beta, out=np.empty_like(x))
    d = sigmoid_array(scaled)
    np.copyto(d, 1, where=scaled > threshold)
    return np.multiply(d, g, out=d)


def _softplus_ops(x: Tensor, beta: float, threshold: float) -> Tensor:
    scaled = x * beta
    curved = scaled.clamp(max=threshold).exp().log1p() / beta
    return WHERE(scaled > threshold, x, curved)  # type: ignore[no-any-return]


def _softplus_grad_ops(x: Tensor, g: Tensor, beta: float, threshold: float) -> Any:
    scaled = x * beta
    return g * WHERE(scaled > threshold, 1, sigmoid(scaled))


SOFTPLUS_GRAD = _gradient("softplus", _softplus_grad, _softplus_grad_ops)
SOFTPLUS = _of_input("softplus", _softplus, SOFTPLUS_GRAD, _softplus_ops)


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """``log(1 + exp(beta * input)) / beta``; ``input`` where ``beta * input > threshold``."""
    return SOFTPLUS(  # type: ignore[no-any-return]
        input, beta=float(beta), threshold=float(threshold)
    )


# --- piecewise linear -----------------------------------------------------------------------------

HARDTANH = Op(
    "hardtanh",
    "elementwise",
    lambda x, low, high: x.clip(low, high),
    lambda x, low, high: x,
    vjp=(lambda s, g: WHERE((s.x <= s["low"]) | (s.x >= s["high"]), 0, g),),
    saves="x",
    decompose=lambda x, low, high: x.clamp(low, high),
)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """``input`` limited to [min_val, max_val], with no gradient at the limits."""
    return _served(input, HARDTANH(input, low=min_val, high=max_val), inplace)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(input, 0), 6)``."""
    return hardtanh(input, 0, 6, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``relu6(input + 3) / 6``."""
    return _served(input, relu6(input + 3) / 6, inplace)


def _hardswish(x: Array) -> Array:
    out = np.add(x, 3, out=np.empty_like(x))
    np.clip(out, 0, 6, out=out)
    np.multiply(out, x, out=out)
    return np.divide(out, 6, out=out)


def _hardswish_grad(x: Array, g: Array) -> Array:
    d = np.divide(x, 3, out=np.empty_like(x))
    np.add(d, 0.5, out=d)
    np.copyto(d, 0, where=x <= -3)
    np.copyto(d, 1, where=x >= 3)
    return np.multiply(d, g, out=d)


HARDSWISH_GRAD = _gradient(
    "hardswish",
    _hardswish_grad,
    lambda x, g: g * WHERE(x <= -3, 0, WHERE(x >= 3, 1, x / 3 + 0.5)),
)
HARDSWISH = _of_input("hardswish", _hardswish, HARDSWISH_GRAD, lambda x: x * relu6(x + 3) / 6)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * relu6(input + 3) / 6`` (Howard et al. 2019, arXiv:1905.02244)."""
    return _served(input, HARDSWISH(input), inplace)
