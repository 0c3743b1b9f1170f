"""Nested containers as flat lists of leaves and back (dict, list, tuple, namedtuple)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """Every leaf, in order; dictionaries in insertion order."""
    if isinstance(tree, dict):
        return [leaf for value in tree.values() for leaf in leaves(value)]
    if isinstance(tree, (list, tuple)):
        return [leaf for value in tree for leaf in leaves(value)]
    return [tree]


def map_leaves(f: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers with ``f`` applied to each leaf."""
    if isinstance(tree, dict):
        return type(tree)({key: map_leaves(f, value) for key, value in tree.items()})
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_leaves(f, value) for value in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_leaves(f, value) for value in tree)
    return f(tree)
