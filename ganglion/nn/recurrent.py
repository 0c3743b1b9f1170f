"""Recurrent networks over sequences: plain, LSTM and GRU."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import ganglion.dtypes as dt
from ganglion.creation import empty
from ganglion.errors import ArgumentError, ArgumentTypeError, ShapeError
from ganglion.nn.cells import States, draw_parameters
from ganglion.nn.module import Module
from ganglion.nn.parameter import Parameter
from ganglion.nn.ragged import Ragged, numbers
from ganglion.nn.utils.rnn import PackedSequence
from ganglion.ops.along import index_select
from ganglion.ops.create import zeros
from ganglion.ops.movement import squeeze, transpose, unsqueeze
from ganglion.ops.stacked import (
    Layer,
    Walk,
    gru_layer,
    lstm_layer,
    rnn_relu_layer,
    rnn_tanh_layer,
    stacked,
    whole,
)
from ganglion.shapes import Shape
from ganglion.tensor import Tensor


class RNNBase(Module):
    """What recurrent networks share: layers, directions, weights, initial states.

    ``mode`` is RNN_TANH, RNN_RELU, LSTM or GRU. All weights and biases start from U(-k, k) with
    k = 1 / sqrt(hidden_size).
    """

    layers: ClassVar[dict[str, tuple[Layer, int, int]]] = {  # function, gates, states
        "RNN_TANH": (rnn_tanh_layer, 1, 1),
        "RNN_RELU": (rnn_relu_layer, 1, 1),
        "LSTM": (lstm_layer, 4, 2),
        "GRU": (gru_layer, 3, 1),
    }

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__()
        if mode not in self.layers:
            raise ArgumentError(f"Unrecognized RNN mode: {mode}; known: {', '.join(self.layers)}")
        _check_flags(bias=bias, batch_first=batch_first)
        _check_sizes(input_size, hidden_size, num_layers, proj_size)
        _check_dropout(dropout, num_layers)
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        self.proj_size = proj_size
        self._names = [
            self._register(layer, suffix, device, dtype)
            for layer in range(num_layers)
            for suffix in (("", "_reverse") if bidirectional else ("",))
        ]
        self.reset_parameters()

    @property
    def _out(self) -> int:
        """The size of the states."""
        return self.proj_size or self.hidden_size

    def _register(
        self, layer: int, suffix: str, device: Any, dtype: dt.dtype | None
    ) -> list[str | None]:
        """Make the weights of one layer and direction; their names, None where there is none."""
        rows = self.layers[self.mode][1] * self.hidden_size
        directions = 2 if self.bidirectional else 1
        shapes: dict[str, Shape | None] = {
            "weight_ih": (rows, self._out * directions if layer else self.input_size),
            "weight_hh": (rows, self._out),
            "bias_ih": (rows,) if self.bias else None,
            "bias_hh": (rows,) if self.bias else None,
            "weight_hr": (self.proj_size, self.hidden_size) if self.proj_size else None,
        }
        names: list[str | None] = []
        for kind, shape in shapes.items():
            name = None if shape is None else f"{kind}_l{layer}{suffix}"
            names.append(name)
            if name is not None:
                setattr(self, name, Parameter(empty(shape, device=device, dtype=dtype)))
        return names

    def reset_parameters(self) -> None:
        """Draw all weights and biases anew."""
        draw_parameters(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing to do here; PyTorch's programs call it."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in own if name] for own in self._names]

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Output, and final states.

        Input (T, B, input_size), (B, T, input_size) with ``batch_first``, (T, input_size), or a
        ``PackedSequence``; ``hx``: initial states (layers * directions, B, size), zeros by default,
        for an LSTM a pair of states and cells. The output has the states of the last layer in place
        of the input's features, both directions side by side.
        """
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx)
        if input.ndim not in (2, 3):
            raise ArgumentError(
                f"{self._kind}: Expected input to be 2D or 3D, got {input.ndim}D instead"
            )
        batched = input.ndim == 3
        x = input if batched else unsqueeze(input, 1)
        turned = batched and self.batch_first
        x = transpose(x, 0, 1) if turned else x
        states = self._states(hx, x, x.shape[1], batched)
        output, final = self._run(whole, x, states)
        if not batched:
            output, final = squeeze(output, 1), [squeeze(state, 1) for state in final]
        return transpose(output, 0, 1) if turned else output, self._handed(final)

    def _run_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, batch_sizes, order, back = input
        ragged = Ragged(numbers(batch_sizes))
        self._check_input(data, 2)
        states = self._states(hx, data, ragged.batch, batched=True)
        if hx is not None:
            states = _permuted(states, order)
        output, final = self._run(ragged.walk, ragged.padded(data), states)
        packed = PackedSequence(ragged.packed(output), batch_sizes, order, back)
        return packed, self._handed(_permuted(final, back))

    def _run(self, walk: Walk, x: Tensor, states: States) -> tuple[Tensor, list[Tensor]]:
        weights = [
            [None if name is None else getattr(self, name) for name in own] for own in self._names
        ]
        dropout = self.dropout if self.training else 0.0
        layer = self.layers[self.mode][0]
        return stacked(layer, walk, x, states, weights, dropout, self.bidirectional)

    @property
    def _kind(self) -> str:
        return self.mode.partition("_")[0]

    def _handed(self, states: States) -> Any:
        """States as the caller gets them: one tensor, or a tuple."""
        return states[0] if len(states) == 1 else tuple(states)

    # --- initial states and checks ------------------------------------------------------------

    def _states(self, hx: Any, x: Tensor, batch: int, batched: bool) -> States:
        self._check_input(x, x.ndim)
        count = self.num_layers * (2 if self.bidirectional else 1)
        sizes = (self._out, self.hidden_size)[: self.layers[self.mode][2]]
        if hx is None:
            return [zeros((count, batch, size), dtype=x.dtype) for size in sizes]
        states = [hx] if isinstance(hx, Tensor) else list(hx)
        if len(states) != len(sizes):
            raise ArgumentError(
                f"{self._kind} takes {len(sizes)} initial states, got {len(states)}"
            )
        _check_ranks(states, 3 if batched else 2)
        states = states if batched else [unsqueeze(state, 1) for state in states]
        for i, (state, size) in enumerate(zip(states, sizes, strict=True)):
            if state._data.shape != (count, batch, size):
                which = f"hidden[{i}]" if len(sizes) > 1 else "hidden"
                raise ShapeError(
                    f"Expected {which} size {(count, batch, size)}, got {list(state._data.shape)}"
                )
        return states

    def _check_input(self, x: Tensor, ndim: int) -> None:
        weight = getattr(self, "weight_ih_l0")  # noqa: B009 - it may be replaced by its user
        if x.dtype is not weight.dtype:
            raise ArgumentError(
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            )
        if x.ndim != ndim:
            raise ShapeError(f"input must have {ndim} dimensions, got {x.ndim}")
        if x._data.shape[-1] != self.input_size:
            raise ShapeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {x._data.shape[-1]}"
            )

    def extra_repr(self) -> str:
        """Sizes, and the options that are not the defaults."""
        shown = [f"{self.input_size}, {self.hidden_size}"]
        for name, default in _DEFAULTS.items():
            if getattr(self, name) != default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join(shown)


_DEFAULTS: dict[str, Any] = {
    "proj_size": 0,
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0.0,
    "bidirectional": False,
}


def _permuted(states: States, order: Tensor | None) -> States:
    return states if order is None else [index_select(state, 1, order) for state in states]


def _check_flags(**flags: Any) -> None:
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ArgumentTypeError(f"{name} should be of type bool, got: {type(value).__name__}")


def _check_sizes(input_size: int, hidden_size: int, num_layers: int, proj_size: int) -> None:
    sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
    for name, size in sizes.items():
        if not isinstance(size, int):
            raise ArgumentTypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ArgumentError(f"{name} must be greater than zero, got {size}")
    if proj_size < 0:
        raise ArgumentError(
            "proj_size should be a positive integer or zero to disable projections, got "
            f"{proj_size}"
        )
    if proj_size >= hidden_size:
        raise ArgumentError(
            f"proj_size has to be smaller than hidden_size, got {proj_size} and {hidden_size}"
        )


def _check_dropout(dropout: Any, num_layers: int) -> None:
    number = isinstance(dropout, (int, float)) and not isinstance(dropout, bool)
    if not number or not 0 <= dropout <= 1:
        raise ArgumentError(
            "dropout should be a number in range [0, 1] representing the probability of an element "
            f"being zeroed, got {dropout!r}"
        )
    if dropout > 0 and num_layers == 1:
        warnings.warn(
            "dropout option adds dropout after all but last recurrent layer, so non-zero dropout "
            f"expects num_layers greater than 1, but got dropout={dropout} and num_layers=1",
            stacklevel=4,
        )


def _check_ranks(states: States, ndim: int) -> None:
    if any(state.ndim != ndim for state in states):
        kind = "batched 3-D" if ndim == 3 else "unbatched 2-D"
        given = ", ".join(f"{state.ndim}-D" for state in states)
        raise ShapeError(f"For {kind} input, hx should also be {ndim}-D but got {given} tensors")


class RNN(RNNBase):
    """``h = tanh(W_ih x + b_ih + W_hh h + b_hh)``, or ReLU, over sequences (Elman 1990)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ArgumentError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory over sequences (Hochreiter and Schmidhuber 1997).

        i, f, o = sigmoid(W x + b + U h + b'), g = tanh(the same), c = f c + i g, h = o tanh(c)

    With ``proj_size``, states are ``weight_hr`` times that (Sak et al. 2014, arXiv:1402.1128).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units over sequences (Cho et al. 2014, arXiv:1406.1078).

    r, z = sigmoid(W x + b + U h + b'), n = tanh(W x + b + r (U h + b')), h = (1 - z) n + z h
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: dt.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
