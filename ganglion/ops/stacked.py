"""Stacks of recurrent layers in one or both directions, and single cells, as functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ganglion.errors import ArgumentError, ShapeError
from ganglion.ops.gru import GRU
from ganglion.ops.join import cat, select, stack
from ganglion.ops.lstm import LSTM
from ganglion.ops.matmul import check_operands
from ganglion.ops.movement import transpose, unsqueeze
from ganglion.ops.random import dropout_mask
from ganglion.ops.recurrent import RNN, first_step
from ganglion.shapes import show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

# (x, initial states, weights, reverse) -> sequences of the states; the first is the output
Layer = Callable[..., Sequence["Tensor"]]
# the same, called with a layer before these, -> output and final states
Walk = Callable[..., tuple["Tensor", Sequence["Tensor"]]]

MOST = 5  # weights of a layer: w_ih, w_hh, b_ih, b_hh, w_hr


# --- layers ---------------------------------------------------------------------------------------


def lstm_layer(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor | None], reverse: bool
) -> Sequence[Tensor]:
    """States and cells of one layer in one direction."""
    return LSTM(x, *states, *weights, reverse=reverse)[:2]  # type: ignore[no-any-return]


def gru_layer(
    x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor | None], reverse: bool
) -> Sequence[Tensor]:
    """States of one layer in one direction."""
    return GRU(x, *states, *weights[:4], reverse=reverse)[:1]  # type: ignore[no-any-return]


def rnn_layer(nonlinearity: str) -> Layer:
    """The plain layer with ``tanh`` or ``relu``."""

    def layer(
        x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor | None], reverse: bool
    ) -> Sequence[Tensor]:
        return (RNN(x, *states, *weights[:4], reverse=reverse, nonlinearity=nonlinearity),)

    return layer


rnn_tanh_layer = rnn_layer("tanh")
rnn_relu_layer = rnn_layer("relu")


# --- stacks ---------------------------------------------------------------------------------------


def whole(
    layer: Layer,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor | None],
    reverse: bool,
) -> tuple[Tensor, Sequence[Tensor]]:
    """One layer over sequences of equal length: output and final states."""
    found = layer(x, states, weights, reverse)
    return found[0], [first_step(sequence, not reverse) for sequence in found]


def stacked(
    layer: Layer,
    walk: Walk,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Sequence[Tensor | None]],
    dropout: float,
    bidirectional: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Layers on top of each other: the last one's output, and final states of all, stacked.

    ``states`` are (layers * directions, batch, size) each; ``weights`` has one group per layer and
    direction. Between layers, ``dropout`` is the probability of zeroing.
    """
    if not x._data.shape[0]:
        raise ShapeError(
            "Expected sequence length to be larger than 0 in RNN, got steps of shape "
            f"{show(x._data.shape)}"
        )
    directions = 2 if bidirectional else 1
    final = []
    for first in range(0, len(weights), directions):
        if first and dropout:
            x = x * dropout_mask(x._data.shape, dropout, x.dtype)
        outputs = []
        for i in range(first, first + directions):
            own = [select(state, 0, i) for state in states]
            output, last = walk(layer, x, own, weights[i], i > first)
            outputs.append(output)
            final.append(last)
        x = cat(outputs, 2) if bidirectional else outputs[0]
    return x, [stack(each) for each in zip(*final, strict=True)]


def grouped(params: Sequence[Tensor], groups: int, has_biases: bool) -> list[list[Tensor | None]]:
    """Flat weights by layer and direction: w_ih, w_hh, b_ih, b_hh, w_hr, None where missing."""
    each, rest = divmod(len(params), groups)
    if rest or each not in ((4, 5) if has_biases else (2, 3)):
        raise ArgumentError(
            f"got {len(params)} weights for {groups} layers and directions, "
            f"{'with' if has_biases else 'without'} biases"
        )
    found: list[list[Tensor | None]] = []
    for i in range(0, len(params), each):
        own: list[Tensor | None] = list(params[i : i + each])
        if not has_biases:
            own[2:2] = [None, None]
        found.append(own + [None] * (MOST - len(own)))
    return found


def _run(
    layer: Layer,
    input: Tensor,
    states: Iterable[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    states = list(states)
    groups = num_layers * (2 if bidirectional else 1)
    _check_run(input, states, params, groups)
    x = transpose(input, 0, 1) if batch_first else input
    weights = grouped(params, groups, has_biases)
    output, final = stacked(
        layer, whole, x, states, weights, dropout if train else 0.0, bidirectional
    )
    return transpose(output, 0, 1) if batch_first else output, *final


def _check_run(
    input: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], groups: int
) -> None:
    check_operands(input, *states, *params)
    if input.ndim != 3:
        raise ShapeError(f"a recurrent layer takes 3-D input, got shape {show(input._data.shape)}")
    for state in states:
        if state.ndim != 3 or state._data.shape[0] != groups:
            raise ShapeError(
                f"hidden states have shape ({groups}, batch, size), one for each layer and "
                f"direction; got {show(state._data.shape)}"
            )


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Output, final states and final cells of a stack of LSTM layers.

    input (T, B, I) and ``hx``, initial states and cells (layers * directions, B, size); ``params``
    has w_ih, w_hh, b_ih, b_hh and, with a projection, w_hr of every layer and direction.
    """
    return _run(
        lstm_layer, input, hx, params, has_biases, num_layers, dropout, train, bidirectional,
        batch_first,
    )  # fmt: skip


def _of_one_state(layer: Layer, name: str, what: str) -> Callable[..., tuple[Tensor, ...]]:
    def function(
        input: Tensor,
        hx: Tensor,
        params: Sequence[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, ...]:
        return _run(
            layer, input, (hx,), params, has_biases, num_layers, dropout, train, bidirectional,
            batch_first,
        )  # fmt: skip

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"Output and final states of a stack of {what}.\n\n"
        "input (T, B, I) and initial states ``hx`` (layers * directions, B, size); ``params`` has\n"
        "w_ih, w_hh, b_ih and b_hh of every layer and direction."
    )
    return function


gru = _of_one_state(gru_layer, "gru", "GRU layers")
rnn_tanh = _of_one_state(rnn_tanh_layer, "rnn_tanh", "recurrent layers with tanh")
rnn_relu = _of_one_state(rnn_relu_layer, "rnn_relu", "recurrent layers with ReLU")


# --- cells ----------------------------------------------------------------------------------------


def _step(
    layer: Layer, input: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor | None]
) -> list[Tensor]:
    """A layer over a sequence of one step."""
    check_operands(input, *states, *weights)
    found = layer(unsqueeze(input, 0), states, (*weights, None), False)
    return [select(sequence, 0, 0) for sequence in found]


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM: input (B, I), states and cells (B, H) to new states and cells."""
    h, c = _step(lstm_layer, input, hx, (w_ih, w_hh, b_ih, b_hh))
    return h, c


def _cell(layer: Layer, name: str, what: str) -> Callable[..., Tensor]:
    def function(
        input: Tensor,
        hx: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:
        return _step(layer, input, (hx,), (w_ih, w_hh, b_ih, b_hh))[0]

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"One step of {what}: input (B, I) and states (B, H) to new states."
    return function


gru_cell = _cell(gru_layer, "gru_cell", "a GRU")
rnn_tanh_cell = _cell(rnn_tanh_layer, "rnn_tanh_cell", "a recurrent layer with tanh")
rnn_relu_cell = _cell(rnn_relu_layer, "rnn_relu_cell", "a recurrent layer with ReLU")
