"""Activations as modules: each holds the options of the function of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from ganglion.nn.module import Module
from ganglion.ops import activation
from ganglion.ops.softmax import log_softmax, softmax
from ganglion.tensor import Tensor


class _Activation(Module):
    """Applies ``function`` with the module's attributes named in ``options``."""

    function: ClassVar[Callable[..., Tensor]]
    options: ClassVar[tuple[str, ...]] = ()

    def forward(self, input: Tensor) -> Tensor:
        """Elementwise: any shape to the same shape."""
        return type(self).function(input, **{name: getattr(self, name) for name in self.options})

    def extra_repr(self) -> str:
        """The options as they were given."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)


class _Inplace(_Activation):
    """An activation whose only option is to overwrite its input."""

    options = ("inplace",)

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Shown only when set."""
        return "inplace=True" if self.inplace else ""


class ReLU(_Inplace):
    """``max(0, x)``."""

    function = activation.relu


class SiLU(_Inplace):
    """``x sigmoid(x)``, also called Swish (Ramachandran et al. 2017, arXiv:1710.05941)."""

    function = activation.silu


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``."""

    function = Tensor.sigmoid


class Tanh(_Activation):
    """``tanh(x)``."""

    function = Tensor.tanh


class LeakyReLU(_Activation):
    """``x`` where positive, ``negative_slope * x`` elsewhere."""

    function, options = activation.leaky_relu, ("negative_slope", "inplace")

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def extra_repr(self) -> str:
        """The slope."""
        return f"negative_slope={self.negative_slope}" + (", inplace=True" * self.inplace)


class ELU(_Activation):
    """``x`` where positive, ``alpha (exp(x) - 1)`` elsewhere (arXiv:1511.07289)."""

    function, options = activation.elu, ("alpha", "inplace")

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def extra_repr(self) -> str:
        """The scale of the negative part."""
        return f"alpha={self.alpha}" + (", inplace=True" * self.inplace)


class GELU(_Activation):
    """``x Phi(x)``; ``approximate='tanh'`` is the usual fast form (arXiv:1606.08415)."""

    function, options = activation.gelu, ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate


class _AlongDim(_Activation):
    options = ("dim",)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_AlongDim):
    """``exp(x) / sum(exp(x))`` along ``dim``."""

    function = softmax


class LogSoftmax(_AlongDim):
    """``log(softmax(x))`` along ``dim``."""

    function = log_softmax
