"""Kernels of the ops that are scans or scatters (``ganglion.ops.sweep``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, Plan
from ganglion.compiler.kernels.scan import scanned
from ganglion.compiler.kernels.scatter import scattered
from ganglion.graph import Node
from ganglion.ops.record import OPS
from ganglion.ops.scalar import NoRule, Scalar, Source, indexes
from ganglion.ops.sweep import Scan, Scatter
from ganglion.shapes import Shape


@dataclass(frozen=True)
class Operand:
    """An input of a node as a function of indexes; ``number`` is its place among the inputs."""

    number: int
    shape: Shape
    dtype: dt.dtype

    def __call__(self, *index: Scalar | int) -> Scalar:
        return Scalar("load", (self.number, *index), self.dtype)


def sweep(node: Node) -> Scan | Scatter | None:
    """What a node computes, if its record says so and it is no function of an index."""
    op = OPS.get(node.op_name)
    if op is None or op.sweep is None or _narrow(node) or _has_elements(node):
        return None
    try:
        return op.sweep(*_operands(node), **node.kwargs)  # type: ignore[no-any-return]
    except NoRule:
        return None


def _operands(node: Node) -> list[Source | None]:
    pairs = enumerate(node.inputs)
    return [None if v is None else Operand(k, v.shape, v.dtype) for k, v in pairs]


def _narrow(node: Node) -> bool:
    """Whether the op computes in float32 what is stored in two bytes."""
    halves = any(v.dtype in dt.HALVES for v in node.operands)
    return halves and OPS[node.op_name].in_float32


def _has_elements(node: Node) -> bool:
    rule = OPS[node.op_name].element
    if rule is None:
        return False
    try:
        rule(indexes(node.outputs[0].shape), *_operands(node), **node.kwargs)
    except NoRule:
        return False
    return True


def swept(node: Node, operands: Sequence[Layout | None], results: Sequence[Layout]) -> Plan:
    """The kernels of a node; the caller's operands are those given, then the result."""
    meaning = sweep(node)
    key = (node.op_name, node.spelling)
    numbers = {k: layout for k, layout in enumerate(operands) if layout is not None}
    if isinstance(meaning, Scan):
        return scanned(meaning, key, numbers, results[0])
    assert meaning is not None
    return scattered(meaning, key, numbers, results[0])
