"""The arguments of a call: which of them are tensors, and whether a trace fits them.

Tensors enter a program by shape, dtype and whether they require gradients; everything else is
static, part of what was traced. A ``float`` that keeps changing may be made a number that the
program reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Signature
from typing import Any, TypeAlias

import numpy as np

from ganglion.compiler.guards import same
from ganglion.errors import TraceError
from ganglion.shapes import Shape, show
from ganglion.tensor import Tensor

Leaves: TypeAlias = Sequence[Any]
Structure: TypeAlias = Any  # of nested arguments; the mere number of flat ones

_FLAT = {Tensor, int, float, bool, str, type(None)}


def flatten(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Leaves, Structure]:
    """The leaves of all arguments, and a description of the containers around them."""
    if not kwargs and all([type(x) in _FLAT for x in args]):  # noqa: C419 - quicker
        return args, len(args)
    leaves: list[Any] = []
    named = tuple([(name, _flat(value, leaves)) for name, value in kwargs.items()])
    return leaves, (tuple([_flat(x, leaves) for x in args]), named)


def _flat(tree: Any, leaves: list[Any]) -> Structure:
    if isinstance(tree, (list, tuple)):
        return type(tree), tuple([_flat(x, leaves) for x in tree])
    if isinstance(tree, dict):
        return type(tree), tuple([(key, _flat(x, leaves)) for key, x in tree.items()])
    leaves.append(tree)
    return None


Reader: TypeAlias = Callable[[Any], Leaves | None]


def reader(structure: Structure) -> Reader:
    """A quicker `flatten` for positional arguments of a known structure; None for others.

    It does not look into leaves: a container in the place of one fits no trace.
    """
    if isinstance(structure, int):
        return lambda args: args if len(args) == structure else None
    positional, named = structure
    return (lambda args: None) if named else _reader((tuple, positional))


def _reader(structure: Structure) -> Reader:
    if structure is None:
        return lambda leaf: (leaf,)
    kind, parts = structure
    count = len(parts)
    if issubclass(kind, dict):
        keys, inside = [key for key, _ in parts], _reader((list, tuple([x for _, x in parts])))
        return lambda tree: (
            inside(list(tree.values())) if type(tree) is kind and list(tree) == keys else None
        )
    if not any(parts):
        return lambda tree: tree if type(tree) is kind and len(tree) == count else None
    readers = list(map(_reader, parts))

    def read(tree: Any) -> Leaves | None:
        if type(tree) is not kind or len(tree) != count:
            return None
        leaves: list[Any] = []
        for part, x in zip(readers, tree, strict=True):
            found = part(x)
            if found is None:
                return None
            leaves += found
        return leaves

    return read


def names(signature: Signature | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """What people call the leaves: ``x``, ``batch[0]``."""
    known = [] if signature is None else list(signature.parameters)
    heads = [known[i] if i < len(known) else f"number {i}" for i in range(len(args))]
    found: list[str] = []
    for name, value in (*kwargs.items(), *zip(heads, args, strict=True)):
        found += _paths(value, name)
    return found


def _paths(tree: Any, name: str) -> Iterator[str]:
    if isinstance(tree, (list, tuple)):
        for i, x in enumerate(tree):
            yield from _paths(x, f"{name}[{i}]")
    elif isinstance(tree, dict):
        for key, x in tree.items():
            yield from _paths(x, f"{name}[{key!r}]")
    else:
        yield name


@dataclass(frozen=True, slots=True, eq=False)
class TensorLeaf:
    """A tensor argument as it was traced."""

    kind: type[Tensor]
    shape: Shape
    dtype: np.dtype[Any]
    requires_grad: bool

    @classmethod
    def of(cls, x: Tensor) -> TensorLeaf:
        return cls(type(x), x._data.shape, x._data.dtype, x.requires_grad)

    def __str__(self) -> str:
        grad = ", requires_grad" if self.requires_grad else ""
        return f"{self.dtype.name} {show(self.shape)}{grad}"

    def fits(self, x: Any) -> bool:
        """Whether a trace of this leaf can take ``x``."""
        if type(x) is not self.kind:
            return False
        data = x._data
        if data.shape != self.shape or data.dtype != self.dtype:
            return False
        plain = x._edge is None and x._view is None
        return (x._leaf if plain else x.requires_grad) is self.requires_grad


@dataclass(frozen=True, slots=True, eq=False)
class StaticLeaf:
    """An argument that is part of what was traced."""

    value: Any

    def __str__(self) -> str:
        return repr(self.value) if same(self.value, self.value) else type(self.value).__name__

    def fits(self, x: Any) -> bool:
        """Whether ``x`` is the same to the program."""
        return x is self.value or same(x, self.value)


@dataclass(frozen=True, slots=True, eq=False)
class NumberLeaf:
    """A float that the program reads at every call."""

    def __str__(self) -> str:
        return "any float"

    def fits(self, x: Any) -> bool:
        """Whether it is a float."""
        return type(x) is float


Leaf: TypeAlias = TensorLeaf | StaticLeaf | NumberLeaf


def described(x: Any, name: str, number: bool) -> Leaf:
    """How a trace relies on an argument; ``number`` if it may be any float."""
    if isinstance(x, Tensor):
        return TensorLeaf.of(x)
    if isinstance(x, np.ndarray):
        raise TraceError(
            f"argument {name} is a NumPy array, whose values a compiled function would not look at "
            "again; pass ganglion.from_numpy(array)"
        )
    return NumberLeaf() if number and type(x) is float else StaticLeaf(x)


def difference(old: Leaf, new: Any, name: str) -> str:
    """In which respect an argument is another, such as ``argument x: shape (32,) -> (16,)``."""
    if isinstance(old, TensorLeaf) and isinstance(new, Tensor):
        now = TensorLeaf.of(new)
        pairs = [
            ("type", old.kind.__name__, now.kind.__name__),
            ("dtype", old.dtype.name, now.dtype.name),
            ("shape", show(old.shape), show(now.shape)),
            ("requires_grad", old.requires_grad, now.requires_grad),
        ]
        changed = [f"{what} {a} -> {b}" for what, a, b in pairs if a != b]
        return f"argument {name}: {', '.join(changed)}"
    return f"argument {name}: {old} -> {_shown(new)}"


def _shown(x: Any) -> str:
    return str(TensorLeaf.of(x) if isinstance(x, Tensor) else StaticLeaf(x))


def rebuilt(structure: Structure, leaves: Leaves) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of that structure with other leaves."""
    if isinstance(structure, int):
        return tuple(leaves), {}
    walk = iter(leaves)
    positional, named = structure
    kwargs = {name: _tree(part, walk) for name, part in named}
    return tuple([_tree(part, walk) for part in positional]), kwargs


def _tree(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure is None:
        return next(leaves)
    kind, parts = structure
    if issubclass(kind, dict):
        return kind({key: _tree(part, leaves) for key, part in parts})
    items = [_tree(part, leaves) for part in parts]
    make: Callable[..., Any] = kind
    return make(*items) if hasattr(kind, "_fields") else make(items)
