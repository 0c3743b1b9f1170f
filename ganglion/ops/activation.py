"""Activation functions, with kernels and gradient kernels of few passes over memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import write
from ganglion.errors import ArgumentError, DTypeError
from ganglion.ops.elementwise import Array, choose, joined, of_one
from ganglion.ops.record import Op, Saved
from ganglion.shapes import Meta

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _relu(x: Array) -> Any:
    return x.clip(0, math.inf) if x.dtype.kind == "f" else np.maximum(x, 0)


def _infer_relu(x: Meta) -> Meta:
    if x.dtype is dt.bool_:
        raise DTypeError("Boolean inputs not supported for relu")
    return x


RELU = Op("relu", "elementwise", _relu, _infer_relu, vjp=(lambda s, g: g * (s.out > 0),), saves="o")
SIGMOID = Op("sigmoid", "elementwise", lambda x: 1 / (1 + np.exp(-x)), joined, vjp=(lambda s, g: g * s.out * (1 - s.out),), saves="o", promote="float")
TANH = Op("tanh", "elementwise", np.tanh, joined, vjp=(lambda s, g: g * (1 - s.out * s.out),), saves="o", promote="float")

sigmoid = of_one(SIGMOID, "")
tanh = of_one(TANH, "")


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    value = RELU(input)
    return write(input, value) if inplace else value
