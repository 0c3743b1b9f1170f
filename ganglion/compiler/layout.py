"""How stored values lie in memory.

Arguments, states and results are row-major, as NumPy made them. Between them, images have their
channels last, since convolutions and pooling run along channels; what is computed from an image
element by element is one too. A value that is read through a permutation is stored as its readers
would have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ganglion.compiler.kernel import Layout, packed, row_major
from ganglion.compiler.lower import Call, Lowered, Statement, Stored, loads
from ganglion.compiler.templates import template
from ganglion.graph import Value
from ganglion.ops import scalar as sc
from ganglion.ops.movement import PERMUTE
from ganglion.ops.scalar import Scalar


def choose_layouts(lowered: Lowered, results: set[Stored]) -> dict[Stored, Layout]:
    """A layout for every stored value."""
    fixed = set(results) | set(lowered.graph.inputs) | set(lowered.graph.states)
    found: dict[Stored, Layout] = {v: packed(v.dtype, v.shape) for v in fixed}
    for known in lowered.sources:
        found.setdefault(known, packed(known.dtype, known.shape))
    images = _images(lowered, fixed)
    for work in lowered.work:
        for value in _made(work):
            if value in images:
                found[value] = channels_last(value)
            elif value not in fixed:
                order = _wanted_order(lowered, value) if isinstance(work, Call) else None
                found[value] = ordered(value, order)
        for joined in work.joins if isinstance(work, Call) else ():
            for k, one in enumerate(joined.parts):
                found[one] = joined.window(k, found[joined.value])
    return found


def _made(work: Statement | Call) -> Iterable[Stored]:
    return [work.value] if isinstance(work, Statement) else work.makes


def channels_last(value: Stored) -> Layout:
    """Batch, then space, then channels."""
    return ordered(value, (0, *range(2, len(value.shape)), 1))


def ordered(value: Stored, order: tuple[int, ...] | None) -> Layout:
    """Dimensions from the one with the longest stride to the densest; None is row-major."""
    if order is None:
        return packed(value.dtype, value.shape)
    steps = row_major(tuple(value.shape[d] for d in order))
    strides = [0] * len(order)
    for dim, step in zip(order, steps, strict=True):
        strides[dim] = step
    return Layout(value.dtype, value.shape, tuple(strides))


# --- images ---------------------------------------------------------------------------------------


def _images(lowered: Lowered, fixed: set[Stored]) -> set[Stored]:
    """What is an image: seen by kernels that work on images, or computed from one."""
    near: dict[Stored, set[Stored]] = {}
    waiting: list[Stored] = []
    for work in lowered.work:
        if isinstance(work, Call):
            waiting += _seen_as_images(lowered, work)
        elif not work.reduction:
            for other in _same_places(work):
                near.setdefault(work.value, set()).add(other)
                near.setdefault(other, set()).add(work.value)
    found: set[Stored] = set()
    while waiting:
        value = waiting.pop()
        if value not in found and value not in fixed:
            found.add(value)
            waiting += near.get(value, ())
    return found


def _seen_as_images(lowered: Lowered, call: Call) -> Iterator[Stored]:
    found = template(call.node)
    for value in found.images(call.node) if found is not None else ():
        index = sc.indexes(value.shape)
        load = lowered.sources[value](*index)
        if load.args[0].shape == value.shape and _is_plain(load, index):
            yield load.args[0]


def _same_places(s: Statement) -> Iterator[Stored]:
    """The values of which a statement reads the element it computes."""
    if len(s.shape) > 2:
        for load in loads(s.expression):
            if load.args[0].shape == s.shape and _is_plain(load, s.index):
                yield load.args[0]


def _is_plain(load: Scalar, index: tuple[Scalar, ...]) -> bool:
    """Whether a load from an array of the same shape reads the element at the index."""
    pairs = zip(load.args[1:], index, strict=True)
    return all(a is b or (a.op == b.op == "const") for a, b in pairs)


# --- permutations ---------------------------------------------------------------------------------


def _wanted_order(lowered: Lowered, value: Stored) -> tuple[int, ...] | None:
    """The order of dimensions in which a value's only reader, a permutation, wants it."""
    if not isinstance(value, Value):
        return None
    readers = lowered.users[value.node]
    orders = {
        tuple(node.kwargs["dims"])
        for node in readers
        if node.op_name == PERMUTE.name and node.inputs[0] == value
    }
    others = [n for n in readers if n.op_name != PERMUTE.name and value in n.inputs]
    return orders.pop() if len(orders) == 1 and not others else None
