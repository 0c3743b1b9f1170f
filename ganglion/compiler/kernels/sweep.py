"""Kernels of the ops that are scans or scatters (``ganglion.ops.sweep``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, Plan
from ganglion.compiler.kernels.scan import scanned
from ganglion.compiler.kernels.scatter import scattered
from ganglion.graph import Node, Value
from ganglion.ops.record import OPS
from ganglion.ops.scalar import INDEX, NoRule, Scalar, Source, const, indexes
from ganglion.ops.sweep import Scan, Scatter
from ganglion.shapes import Shape

LARGE = 1 << 14  # elements that are better not copied
SMALL_PART = 8  # times less of which is a small part


@dataclass(eq=False)
class Operand:
    """An input of a node as a function of indexes; ``number`` is its place among the inputs."""

    number: int
    shape: Shape
    dtype: dt.dtype

    def __call__(self, *index: Scalar | int) -> Scalar:
        places = (const(i, INDEX) if isinstance(i, int) else i for i in index)
        return Scalar("load", (self.number, *places), self.dtype)


def sweep(node: Node) -> Scan | Scatter | None:
    """What a node computes, if its record says so and nothing else serves better."""
    op = OPS.get(node.op_name)
    if op is None or op.sweep is None or _narrow(node):
        return None
    try:
        found: Scan | Scatter = op.sweep(*_operands(node), **node.kwargs)
    except NoRule:
        return None
    return None if _has_elements(node) and not _is_small(found, node) else found


def base_of(node: Node) -> Value | None:
    """The operand in which a scatter may work, if there is one."""
    found = sweep(node)
    return node.inputs[0] if isinstance(found, Scatter) and found.base is not None else None


def _is_small(found: Scan | Scatter, node: Node) -> bool:
    """Whether a small part of something large changes, so that it is best done in place."""
    numel = node.outputs[0].numel
    part = math.prod(found.over) if isinstance(found, Scatter) else numel
    return numel >= LARGE and part * SMALL_PART <= numel


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
