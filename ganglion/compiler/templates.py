"""Nodes with kernels of their own, rather than loops written from their elements.

A ``Template`` turns a node into a ``Plan``. Its one result may be finished in registers by an
epilogue; templates with several results store them where they are told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Epilogue, Layout, Plan
from ganglion.compiler.kernels import conv, pool, recurrent, recurrent_grad
from ganglion.compiler.kernels.attention import attention
from ganglion.compiler.kernels.attention_grad import attention_grad
from ganglion.compiler.kernels.gemm import product
from ganglion.compiler.kernels.sweep import base_of, sweep, swept
from ganglion.compiler.target import host
from ganglion.config import flags
from ganglion.graph import Node, Value
from ganglion.ops.adaptive import ADAPTIVE_AVG_POOL, ADAPTIVE_AVG_POOL_GRAD
from ganglion.ops.attention import ATTENTION, ATTENTION_GRAD
from ganglion.ops.conv import CONV, CONV_INPUT, CONV_WEIGHT
from ganglion.ops.gru import GRU, GRU_GRAD
from ganglion.ops.lstm import LSTM, LSTM_GRAD
from ganglion.ops.matmul import MATMUL
from ganglion.ops.pool import AVG_POOL, AVG_POOL_GRAD, MAX_POOL, MAX_POOL_GATHER, MAX_POOL_GRAD
from ganglion.ops.recurrent import RNN, RNN_GRAD
from ganglion.shapes import Shape


@dataclass(frozen=True)
class Template:
    """How a node becomes kernels.

    ``applies(node)``: whether it can; otherwise the node is expanded into loops.
    ``finish(node, operands, epilogue, shape)``: the plan of a node with one result, whose tiles
    the epilogue receives, by indexes of ``shape(node)``.
    ``store(node, operands, results)``: the plan of a node that stores all its results.
    ``reuses(node)``: the operand in whose memory the first result may be made, if it is not needed
    afterwards; a copy of it onto itself is then left out.
    ``optional``: results that are left out, as None, where nobody reads them.
    ``images(node)``: the operands and results that are images, best stored with channels last.
    ``window(node)``: what tiles of the operand suffice for, if they consist of whole windows; the
    tiles of a template with ``tiled`` can.
    """

    applies: Callable[[Node], bool]
    finish: Callable[[Node, Sequence[Layout], Epilogue], Plan] | None = None
    shape: Callable[[Node], Shape] = lambda node: node.outputs[0].shape
    store: Callable[[Node, Sequence[Layout | None], Sequence[Any]], Plan] | None = None
    reuses: Callable[[Node], Value | None] = lambda node: None
    images: Callable[[Node], Sequence[Value]] = lambda node: ()
    window: Callable[[Node], Shape] = lambda node: ()
    tiled: Callable[[Node], bool] = lambda node: False
    optional: tuple[int, ...] = ()


def template(node: Node) -> Template | None:
    """The template that computes a node, if there is one."""
    found = TEMPLATES.get(node.op_name, SWEEP)
    return found if found.applies(node) else None


def finished(node: Node) -> Value | None:
    """The value that an epilogue may finish in registers."""
    found = template(node)
    return node.values[0] if found is not None and found.finish is not None else None


def _floating(node: Node) -> bool:
    filled = all(v.meta.numel for v in node.operands) and node.outputs[0].numel > 0
    return node.outputs[0].dtype in (dt.float32, dt.float64) and filled


# --- products -------------------------------------------------------------------------------------


def _turned(layout: Layout, turn: bool) -> Layout:
    """The last two dimensions swapped."""
    if not turn:
        return layout
    (*lead, m, n), (*steps, s, t) = layout.shape, layout.strides
    return Layout(layout.dtype, (*lead, n, m), (*steps, t, s), layout.offset, layout.size)


def _expanded(layout: Layout, batch: Shape) -> Layout:
    """Leading dimensions broadcast."""
    lead, steps = layout.shape[:-2], layout.strides[:-2]
    new = len(batch) - len(lead)
    strides = [0] * new + [
        0 if a == 1 and b != 1 else s for a, b, s in zip(lead, batch[new:], steps, strict=True)
    ]
    shape = (*batch, *layout.shape[-2:])
    return Layout(
        layout.dtype, shape, (*strides, *layout.strides[-2:]), layout.offset, layout.elements
    )


def _matmul(node: Node, operands: Sequence[Layout], epilogue: Epilogue) -> Plan:
    params: dict[str, Any] = node.kwargs
    batch = node.outputs[0].shape[:-2]
    a = _expanded(_turned(operands[0], params["tx"]), batch)
    b = _expanded(_turned(operands[1], params["ty"]), batch)
    return product(a, b, epilogue, node.outputs[0].shape, target=host())


# --- convolutions ---------------------------------------------------------------------------------


def _single(node: Node) -> bool:
    """Convolutions whose bias has been split off."""
    return _floating(node) and (len(node.inputs) < 3 or node.inputs[2] is None)


def _exact() -> bool:
    """Whether Winograd's algorithm is forbidden: its errors are some ten times larger."""
    return flags.conv == "direct"


def _conv_forward(node: Node, operands: Sequence[Layout], epilogue: Epilogue) -> Plan:
    x, w = operands
    return conv.conv_forward(x, w, epilogue, direct=_exact(), target=host(), **node.kwargs)


def _conv_input(node: Node, operands: Sequence[Layout], epilogue: Epilogue) -> Plan:
    g, w = operands
    return conv.conv_input(g, w, epilogue, direct=_exact(), target=host(), **node.kwargs)


def _conv_weight(node: Node, operands: Sequence[Layout], epilogue: Epilogue) -> Plan:
    x, g = operands
    return conv.conv_weight(x, g, epilogue, direct=_exact(), target=host(), **node.kwargs)


def _rows_of_weight(node: Node) -> Shape:
    outs, *rest = node.outputs[0].shape
    return outs, math.prod(rest)


def _operands(*places: int, result: bool = True) -> Callable[[Node], Sequence[Value]]:
    """Images among the inputs, and the first result."""

    def images(node: Node) -> Sequence[Value]:
        found = [v for i in places if (v := node.inputs[i]) is not None]
        return [*found, *(node.values if result else ())]

    return images


def _all_images(node: Node) -> Sequence[Value]:
    return [*node.operands, *node.values]


# --- pooling --------------------------------------------------------------------------------------


def _pooled(kernels: Callable[..., Plan], count: int) -> Template:
    """A pooling of ``count`` operands whose result an epilogue may finish."""

    def finish(node: Node, operands: Sequence[Layout], epilogue: Epilogue) -> Plan:
        return kernels(*operands, epilogue, **node.kwargs)

    return Template(_floating, finish=finish, images=_operands(*range(count)))


def _max_pool(node: Node, operands: Sequence[Layout | None], results: Sequence[Any]) -> Plan:
    return pool.max_pool(operands[0], *results, **node.kwargs)  # type: ignore[arg-type]


def _apart(node: Node) -> Shape:
    """The window of a pooling whose windows are small and lie side by side."""
    params: dict[str, Any] = node.kwargs
    kernel: Shape = params["kernel"]
    whole = not any(params["padding"]) and max(params["dilation"]) == 1
    small = len(kernel) == 2 and max(kernel) == 2
    return kernel if whole and small and kernel == params["stride"] and _inside(node) else ()


def _inside(node: Node) -> bool:
    """Whether all windows end inside of the image."""
    x, kernel = node.inputs[0], node.kwargs["kernel"]
    assert x is not None
    pairs = zip(x.shape[2:], node.outputs[0].shape[2:], kernel, strict=True)
    return all(places * size <= n for n, places, size in pairs)


# --- kernels that store their results -------------------------------------------------------------


def _in_order(kernels: Callable[..., Plan]) -> Template:
    """A record whose kernels take its inputs, then its results, then its parameters."""

    def store(node: Node, operands: Sequence[Layout | None], results: Sequence[Layout]) -> Plan:
        return kernels(*operands, *results, target=host(), **node.kwargs)

    return Template(_floating, store=store)


TEMPLATES: dict[str, Template] = {
    MATMUL.name: Template(_floating, finish=_matmul),
    CONV.name: Template(
        _single,
        finish=_conv_forward,
        images=_operands(0),
        tiled=lambda node: len(node.outputs[0].shape) == 4 and node.outputs[0].shape[1] > 1,
    ),
    CONV_INPUT.name: Template(_floating, finish=_conv_input, images=_operands(0)),
    CONV_WEIGHT.name: Template(
        _floating,
        finish=_conv_weight,
        shape=_rows_of_weight,
        images=_operands(0, 1, result=False),
    ),
    MAX_POOL.name: Template(
        _floating, store=_max_pool, images=_all_images, optional=(1,), window=_apart
    ),
    MAX_POOL_GRAD.name: _pooled(pool.max_pool_grad, 2),
    MAX_POOL_GATHER.name: _pooled(pool.max_pool_gather, 2),
    AVG_POOL.name: _pooled(pool.avg_pool, 1),
    AVG_POOL_GRAD.name: _pooled(pool.avg_pool_grad, 1),
    ADAPTIVE_AVG_POOL.name: _pooled(pool.adaptive_avg_pool, 1),
    ADAPTIVE_AVG_POOL_GRAD.name: _pooled(pool.adaptive_avg_pool_grad, 1),
    ATTENTION.name: _in_order(attention),
    ATTENTION_GRAD.name: _in_order(attention_grad),
    LSTM.name: _in_order(recurrent.lstm_layer),
    LSTM_GRAD.name: _in_order(recurrent_grad.lstm_layer_grad),
    GRU.name: _in_order(recurrent.gru_layer),
    GRU_GRAD.name: _in_order(recurrent_grad.gru_layer_grad),
    RNN.name: _in_order(recurrent.rnn_layer),
    RNN_GRAD.name: _in_order(recurrent_grad.rnn_layer_grad),
}

# records that say what they ``sweep``
SWEEP = Template(lambda node: sweep(node) is not None, store=swept, reuses=base_of)
