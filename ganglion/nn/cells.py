"""Single steps of recurrent networks: plain, LSTM and GRU cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ArgumentError, ShapeError
from ganglion.nn import init
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.ops.create import zeros
from ganglion.ops.movement import squeeze, unsqueeze
from ganglion.ops.stacked import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from ganglion.tensor import Tensor

States = Sequence[Tensor]


def draw_parameters(module: Module, hidden_size: int) -> None:
    """Fill all parameters from U(-k, k) with k = 1 / sqrt(hidden_size)."""
    bound = 1 / math.sqrt(hidden_size) if hidden_size > 0 else 0
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)


class RNNCellBase(Module):
    """What cells share. All weights and biases start from U(-k, k), k = 1 / sqrt(hidden_size)."""

    bias_ih: Parameter | None
    bias_hh: Parameter | None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = Parameter(empty(rows, hidden_size, device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            made = Parameter(empty(rows, device=device, dtype=dtype)) if bias else None
            self.register_parameter(name, made)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        draw_parameters(self, self.hidden_size)

    @property
    def _weights(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _prepared(self, input: Tensor, hx: Any, count: int) -> tuple[Tensor, States]:
        """Input and states with a batch dimension; states default to zeros."""
        name = type(self).__name__
        given = [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)
        for what, x in (("input", input), *(("hidden", h) for h in given)):
            if x.ndim not in (1, 2):
                raise ArgumentError(
                    f"{name}: Expected {what} to be 1D or 2D, got {x.ndim}D instead"
                )
        if input._data.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input has inconsistent input_size: got {input._data.shape[-1]}, expected "
                f"{self.input_size}"
            )
        x = input if input.ndim == 2 else unsqueeze(input, 0)
        if hx is None:
            given = [zeros((x._data.shape[0], self.hidden_size), dtype=x.dtype)] * count
        return x, given if input.ndim == 2 or hx is None else [unsqueeze(h, 0) for h in given]

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the defaults."""
        shown = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
        relu = getattr(self, "nonlinearity", "tanh") != "tanh"
        return f"{shown}, nonlinearity={self.nonlinearity}" if relu else shown


class RNNCell(RNNCellBase):
    """One step of ``RNN``: input (B, input_size) and states (B, hidden_size) to new states."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, input_size) or (input_size,) to (B, hidden_size) or (hidden_size,)."""
        cells = {"tanh": rnn_tanh_cell, "relu": rnn_relu_cell}
        if self.nonlinearity not in cells:
            raise ShapeError(f"Unknown nonlinearity: {self.nonlinearity}; use 'tanh' or 'relu'")
        x, (h,) = self._prepared(input, hx, 1)
        found = cells[self.nonlinearity](x, h, *self._weights)
        return found if input.ndim == 2 else squeeze(found, 0)


class GRUCell(RNNCellBase):
    """One step of ``GRU``: input (B, input_size) and states (B, hidden_size) to new states."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """(B, input_size) or (input_size,) to (B, hidden_size) or (hidden_size,)."""
        x, (h,) = self._prepared(input, hx, 1)
        found = gru_cell(x, h, *self._weights)
        return found if input.ndim == 2 else squeeze(found, 0)


class LSTMCell(RNNCellBase):
    """One step of ``LSTM``: input (B, input_size), states and cells (B, hidden_size) to new."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(B, input_size) or (input_size,) to a pair (B, hidden_size) or (hidden_size,)."""
        x, states = self._prepared(input, hx, 2)
        h, c = lstm_cell(x, states, *self._weights)
        return (h, c) if input.ndim == 2 else (squeeze(h, 0), squeeze(c, 0))
