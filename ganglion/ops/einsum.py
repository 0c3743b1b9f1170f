"""Einstein summation: sums of products, written as labels on dimensions.

    einsum("bij,bjk->bik", x, y)      a batch of matrix products
    einsum("ii->i", x)                a diagonal

Operands meet from left to right; each meeting is one batched matrix product, so gradients and
tracing follow from those of permute, reshape and matmul.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ganglion.errors import ArgumentError, ShapeError
from ganglion.ops.arithmetic import mul
from ganglion.ops.diagonal import diagonal
from ganglion.ops.matmul import MATMUL, check_operands
from ganglion.ops.movement import permute, reshape, transpose
from ganglion.ops.reduce import sum as sum_
from ganglion.shapes import show

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

# A dimension's name: a letter or number; ("...", n) for the n-th dimension of an ellipsis,
# counted from the right, so that ellipses of different lengths line up.
Label = Any
Labels = list[Label]
Term = tuple["Tensor", Labels]

ELLIPSIS = "..."


def einsum(equation: Any, *operands: Any) -> Tensor:
    """The sum of products that ``equation`` spells; also ``einsum(x, [0, 1], y, [1, 2], [0, 2])``.

    Letters that the output leaves out are summed. Without ``->`` the output is the letters
    that occur once, in order, after the ellipsis.
    """
    if isinstance(equation, str):
        tensors = list(operands[0] if len(operands) == 1 and _is_list(operands[0]) else operands)
        inputs, output = _parse(equation)
    else:
        tensors, inputs, output = _split_sublists([equation, *operands])
    if len(tensors) != len(inputs) or not tensors:
        raise ArgumentError(
            f"einsum(): the equation names {len(inputs)} operands but {len(tensors)} were given"
        )
    check_operands(*tensors)
    labels = list(map(_name_dims, tensors, inputs, range(len(inputs))))
    wanted = _output_labels(labels, output)
    sizes = _sizes(tensors, labels)
    terms = [_prepared(x, names, sizes) for x, names in zip(tensors, labels, strict=True)]
    return _arranged(_folded(terms, wanted), wanted)


def _is_list(x: Any) -> bool:
    return isinstance(x, (list, tuple))


# --- reading the equation -------------------------------------------------------------------------


def _parse(equation: str) -> tuple[list[Labels], Labels | None]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    inputs = [_tokens(term) for term in left.split(",")]
    return inputs, _tokens(right) if arrow else None


def _tokens(term: str) -> Labels:
    tokens: Labels = re.findall(r"\.\.\.|.", term)
    for token in tokens:
        if token != ELLIPSIS and not (token.isascii() and token.isalpha()):
            raise ArgumentError(
                f"einsum(): invalid subscript {token!r} in {term!r}; subscripts are letters, "
                "'...' and '->'"
            )
    return tokens


def _split_sublists(args: list[Any]) -> tuple[list[Tensor], list[Labels], Labels | None]:
    output = _numbers(args.pop()) if len(args) % 2 else None
    return args[::2], [_numbers(labels) for labels in args[1::2]], output


def _numbers(labels: Any) -> Labels:
    if not _is_list(labels) or not all(x is ... or isinstance(x, int) for x in labels):
        raise ArgumentError(f"einsum(): expected a list of ints as subscripts, got {labels!r}")
    return [ELLIPSIS if x is ... else x for x in labels]


def _name_dims(x: Tensor, term: Labels, position: int) -> Labels:
    """One label per dimension: the ellipsis spelled out."""
    if term.count(ELLIPSIS) > 1:
        raise ArgumentError(f"einsum(): operand {position} has more than one ellipsis")
    extra = x.ndim - len(term) + 1
    if ELLIPSIS not in term:
        extra -= 1
        if extra:
            raise ShapeError(
                f"einsum(): the number of subscripts in the equation ({len(term)}) does not match "
                f"the number of dimensions ({x.ndim}) for operand {position} and no ellipsis was "
                "given"
            )
        return term
    if extra < 0:
        raise ShapeError(
            f"einsum(): the number of subscripts in the equation ({len(term) - 1}) is more than "
            f"the number of dimensions ({x.ndim}) for operand {position}"
        )
    at = term.index(ELLIPSIS)
    return [*term[:at], *_spelled(extra), *term[at + 1 :]]


def _spelled(count: int) -> Labels:
    return [(ELLIPSIS, n) for n in reversed(range(count))]


def _output_labels(labels: list[Labels], output: Labels | None) -> Labels:
    counts = Counter(label for term in labels for label in term)
    dots = _spelled(sum(isinstance(label, tuple) for label in counts))
    if output is None:
        return dots + sorted(x for x, n in counts.items() if n == 1 and not isinstance(x, tuple))
    spelled = [x for label in output for x in (dots if label == ELLIPSIS else [label])]
    for label, n in Counter(spelled).items():
        if n > 1:
            raise ArgumentError(
                f"einsum(): output subscript {label} appears more than once in the output"
            )
        if label not in counts:
            raise ArgumentError(
                f"einsum(): output subscript {label} does not appear in the equation for any "
                "input operand"
            )
    return spelled


def _sizes(tensors: Sequence[Tensor], labels: list[Labels]) -> dict[Label, int]:
    sizes: dict[Label, int] = {}
    for position, (x, term) in enumerate(zip(tensors, labels, strict=True)):
        for label, size in zip(term, x._data.shape, strict=True):
            seen = sizes.setdefault(label, size)
            if seen == 1:
                sizes[label] = size
            elif size not in (1, seen):
                raise ShapeError(
                    f"einsum(): subscript {label} has size {size} for operand {position} which "
                    f"does not broadcast with previously seen size {seen}"
                )
    return sizes


# --- computing ------------------------------------------------------------------------------------


def _prepared(x: Tensor, labels: Labels, sizes: dict[Label, int]) -> Term:
    """An operand whose labels are distinct and never broadcast."""
    x, labels = _diagonals(x, labels)
    shape = x._data.shape
    kept = [i for i, label in enumerate(labels) if shape[i] == sizes[label]]
    if len(kept) < len(labels):
        x = reshape(x, [shape[i] for i in kept])
    return x, [labels[i] for i in kept]


def _diagonals(x: Tensor, labels: Labels) -> Term:
    """Each label once: equal labels walk their dimensions together."""
    for label, count in Counter(labels).items():
        for _ in range(count - 1):
            i = labels.index(label)
            j = labels.index(label, i + 1)
            x = _diagonal(x, i, j, label)
            labels = [*labels[:i], *labels[i + 1 : j], *labels[j + 1 :], label]
    return x, labels


def _diagonal(x: Tensor, i: int, j: int, label: Label) -> Tensor:
    n, other = x._data.shape[i], x._data.shape[j]
    if other != n:
        raise ShapeError(
            f"einsum(): subscript {label} is repeated for an operand of shape "
            f"{show(x._data.shape)} but the sizes don't match, {n} != {other}"
        )
    return diagonal(x, 0, i, j)


def _folded(terms: list[Term], wanted: Labels) -> Term:
    """All operands as one, from left to right."""
    found = terms[0]
    for i, term in enumerate(terms[1:], 1):
        later = {label for _, labels in terms[i + 1 :] for label in labels}
        found = _meeting(found, term, later.union(wanted))
    return found


def _meeting(first: Term, second: Term, keep: set[Label]) -> Term:
    """The product of two operands, summed over the labels that nobody wants any more."""
    x, xs = _summed(*first, keep.union(second[1]))
    y, ys = _summed(*second, keep.union(first[1]))
    batch = [label for label in xs if label in ys and label in keep]
    inner = [label for label in xs if label in ys and label not in keep]
    left = [label for label in xs if label not in ys]
    right = [label for label in ys if label not in xs]
    size = dict(zip(xs, x._data.shape, strict=True)) | dict(zip(ys, y._data.shape, strict=True))
    blocks = [[size[label] for label in group] for group in (batch, left, right)]
    a, tx = _matrices(x, xs, (batch, left, inner))
    b, ty = _matrices(y, ys, (batch, inner, right))
    if inner:
        product = MATMUL(a, b, tx=tx, ty=ty)
    else:  # a plain product: columns times rows
        product = mul(transpose(a, -2, -1) if tx else a, transpose(b, -2, -1) if ty else b)
    return reshape(product, [n for block in blocks for n in block]), batch + left + right


def _matrices(x: Tensor, labels: Labels, groups: tuple[Labels, ...]) -> tuple[Tensor, bool]:
    """``x`` as (batch, rows, columns), or transposed where that needs no copy.

    Without batch labels, as (rows, columns).
    """
    batch, rows, columns = groups
    turned = labels == batch + columns + rows and bool(rows) and bool(columns)
    if turned:
        rows, columns = columns, rows
    sizes = dict(zip(labels, x._data.shape, strict=True))
    x = _ordered(x, labels, batch + rows + columns)
    shape = [math.prod(sizes[label] for label in group) for group in (batch, rows, columns)]
    return reshape(x, shape if batch else shape[1:]), turned


def _ordered(x: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    return x if labels == wanted else permute(x, [labels.index(label) for label in wanted])


def _summed(x: Tensor, labels: Labels, keep: set[Label]) -> Term:
    dims = [i for i, label in enumerate(labels) if label not in keep]
    if not dims:
        return x, labels
    return sum_(x, dims), [label for label in labels if label in keep]


def _arranged(term: Term, wanted: Labels) -> Tensor:
    """The one operand left, summed and in the order of the output."""
    x, labels = _summed(*term, set(wanted))
    return permute(x, [labels.index(label) for label in wanted])  # never an operand itself
