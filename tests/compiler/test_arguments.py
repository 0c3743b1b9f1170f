"""A call's leaves, found again by the structure of an earlier one."""

from collections import OrderedDict
from typing import NamedTuple

import pytest

from ganglion.compiler.arguments import flatten, reader


class Pair(NamedTuple):
    a: object
    b: object


CALLS = [
    (),
    (1, "x"),
    ([1, 2], [0.5]),
    ([[1, (2, 3)], 4], 5),
    ([], ()),
    ({"a": 1, "b": [2, {"c": 3}]},),
    (OrderedDict(a=1),),
    (Pair(1, [2]),),
]


@pytest.mark.parametrize("args", CALLS)
def test_a_reader_finds_what_flatten_finds(args):
    leaves, structure = flatten(args, {})
    assert list(reader(structure)(args)) == list(leaves)


def test_a_reader_takes_no_other_structure():
    for i, args in enumerate(CALLS):
        read = reader(flatten(args, {})[1])
        for j, other in enumerate(CALLS):
            found = read(other)
            if i != j and found is not None:  # it looks for leaves, and found a container there
                assert any(isinstance(leaf, (list, tuple, dict)) for leaf in found)


def test_a_reader_takes_no_other_keys_or_kinds():
    read = reader(flatten(({"a": 1, "b": 2},), {})[1])
    assert read(({"b": 2, "a": 1},)) is None
    assert read((OrderedDict(a=1, b=2),)) is None
    assert read(({"a": 3, "b": 4},)) == [3, 4]
    assert reader(flatten(([1],), {})[1])(((1,),)) is None


def test_named_arguments_are_left_to_flatten():
    assert reader(flatten(([1],), {"k": 2})[1])(([1],)) is None
