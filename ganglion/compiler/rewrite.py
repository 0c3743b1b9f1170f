"""Nodes that compute the same as others with less work: gradients through max pooling.

A window hands its gradient to one position alone. So what looks at the pooled values there, or
adds everything up, need not see the larger array, which is zero elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import ganglion.dtypes as dt
from ganglion.compiler.templates import template
from ganglion.compiler.trace import written_out
from ganglion.graph import Node
from ganglion.ops.activation import RELU_GRAD
from ganglion.ops.pool import MAX_POOL, MAX_POOL_GRAD
from ganglion.ops.reduce import SUM
from ganglion.ops.select import WHERE

NOWHERE: Final = 254  # a position that smaller windows do not have, nor cells outside of images


def cheaper(node: Node) -> Node:
    """A node with the same values, up to the order of sums, that takes less work; or itself."""
    rule = RULES.get(node.op_name)
    found = rule(node) if rule is not None else None
    return node if found is None else found


def _rectified(node: Node) -> Node | None:
    """``relu_grad(y, max_pool_grad(g, p))`` where p are the positions of y's largest elements.

    Where the largest is not positive, the position becomes one that no element has.
    """
    y, unpooled = node.inputs
    if y is None or unpooled is None or unpooled.node.op_name != MAX_POOL_GRAD.name:
        return None
    g, positions = unpooled.node.inputs
    assert positions is not None
    pool = positions.node
    if pool.op_name != MAX_POOL.name or pool.inputs[0] != y or positions.dtype is not dt.uint8:
        return None
    if math.prod(pool.kwargs["kernel"]) > NOWHERE or template(unpooled.node) is None:
        return None
    (alive,) = written_out(lambda y, p: WHERE(y <= 0, NOWHERE, p), pool.values[0], positions)
    return unpooled.node.of((g, alive))


def _summed(node: Node) -> Node | None:
    """``sum(max_pool_grad(g, p))`` over all of space: of g, where p is a position."""
    (unpooled,) = node.inputs
    if unpooled is None or unpooled.node.op_name != MAX_POOL_GRAD.name:
        return None
    space = len(unpooled.node.kwargs["kernel"])
    if not set(range(unpooled.meta.ndim - space, unpooled.meta.ndim)) <= set(node.kwargs["dims"]):
        return None
    g, positions = unpooled.node.inputs
    assert g is not None
    assert positions is not None
    if positions.node.op_name != MAX_POOL.name:
        (g,) = written_out(lambda g, p: WHERE(p == NOWHERE, 0, g), g, positions)
    return node.of((g,))


RULES: Final[dict[str, Callable[[Node], Node | None]]] = {
    RELU_GRAD.name: _rectified,
    SUM.name: _summed,
}
