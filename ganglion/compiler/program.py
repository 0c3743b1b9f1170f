"""What a trace gives: a graph, the tensors behind its slots, and where a call's results go.

A program's outputs are arrays. ``deliver`` makes of them what the traced Python would have made:
the function's return value with tensors in it, gradients in ``.grad``, arguments written in place.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from ganglion.compiler.numbers import Numbers
from ganglion.graph import Graph
from ganglion.ops.movement import VIEW, reshape
from ganglion.ops.update import ACCUMULATE
from ganglion.storage import Chain, Storage
from ganglion.tensor import Tensor, wrap
from ganglion.tree import map_leaves

Array = np.ndarray[Any, Any]


# --- places: they stand for tensors in a result ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class Output:
    """A tensor that the call makes: ``program.made[index]``."""

    index: int


@dataclass(frozen=True, slots=True)
class Given:
    """The caller's own tensor: argument number ``index`` among the tensors."""

    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A tensor that existed before: a parameter, a buffer, a constant."""

    tensor: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A view of another place's tensor, by the view ops in ``chain``."""

    source: Place
    chain: Chain


Place: TypeAlias = Output | Given | Held | Seen
_PLACES = (Output, Given, Held, Seen)


@dataclass(frozen=True, slots=True)
class Made:
    """One tensor made by a call: which of the graph's outputs it holds, and what kind it is.

    ``edge`` is its number among the outputs that have a gradient history; ``shared`` says that
    another tensor holds the same output, so that this one takes a copy.
    """

    output: int
    leaf: bool = False
    storage: type[Storage] = Storage
    edge: int | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Gradient:
    """What a call leaves in ``owner.grad``: a tensor, None, or (``spent``) a note that it is gone.

    ``adds`` says that it is added to what the caller's tensor has there.
    """

    owner: Held | Given
    place: Place | None
    spent: bool = False
    adds: bool = False


class Past(Protocol):
    """The gradient history of a call's outputs (see ``ganglion.compiler.backward``)."""

    compile: Callable[[Program], Any]

    def attach(
        self, made: Sequence[Tensor], given: Sequence[Tensor], outputs: Sequence[Array]
    ) -> None:
        """Give the outputs their history."""


@dataclass(frozen=True)
class Program:
    """A traced function: its graph, the tensors behind its slots, and how to hand results back.

    ``slots[i].data`` is state number i of the graph, but for the slots in ``owners``: they hold
    what is in their owner's ``.grad``. ``result`` is the function's return value with places for
    tensors. ``flags`` lists tensors whose ``requires_grad`` the function sets, ``stores`` pairs an
    argument written in place with the output that holds its new content.
    """

    graph: Graph
    slots: tuple[Tensor, ...] = ()
    owners: Mapping[int, Tensor] = field(default_factory=dict)
    result: Any = None
    made: tuple[Made, ...] = ()
    gradients: tuple[Gradient, ...] = ()
    flags: tuple[tuple[Tensor, bool], ...] = ()
    stores: tuple[tuple[int, int], ...] = ()
    numbers: Numbers | None = None
    past: Past | None = None

    def states(self) -> list[Tensor]:
        """The tensor behind every slot at this moment."""
        found = list(self.slots)
        for slot, owner in self.owners.items():
            if owner._grad is not None:
                found[slot] = owner._grad
        return found

    @property
    def written(self) -> tuple[int, ...]:
        """The slots that a call writes to."""
        return tuple(slot for slot, _ in self.graph.updates)


def contiguous(array: Array) -> Array:
    """The array itself if its elements lie in order, else a copy (0-d stays 0-d)."""
    return array if array.flags.c_contiguous else array.copy(order="C")


# --- delivering -----------------------------------------------------------------------------------


class Delivery:
    """Hands the results of a program's calls to where the traced Python would have put them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.build = _builder(program.result)
        spent = [g for g in program.gradients if g.spent and isinstance(g.owner, Held)]
        self.spent = [g.owner.tensor for g in spent if isinstance(g.owner, Held)]
        self.gradients = [g for g in program.gradients if g not in spent]
        self.silent = not (self.gradients or program.flags or program.stores)
        plain = all(m == Made(m.output, edge=m.edge) for m in program.made)
        self.plain = [m.output for m in program.made] if plain else None

    def __call__(self, given: Sequence[Tensor], outputs: Sequence[Array]) -> Any:
        """The function's return value, from a call's tensor arguments and its output arrays."""
        program = self.program
        if self.plain is not None:
            made = [wrap(outputs[i]) for i in self.plain]
        else:
            made = [_tensor(m, outputs) for m in program.made]
        if program.past is not None:
            program.past.attach(made, given, outputs)
        for x in self.spent:
            x._grad, x._spent = None, True
        if not self.silent:
            self._effects(made, given, outputs)
        return self.build(made, given)

    def _effects(
        self, made: Sequence[Tensor], given: Sequence[Tensor], outputs: Sequence[Array]
    ) -> None:
        program = self.program
        for index, output in program.stores:
            np.copyto(given[index]._data, outputs[output])
            given[index]._storage.advance()
        for tensor, wanted in program.flags:
            tensor._leaf = wanted
        for gradient in self.gradients:
            place = gradient.place
            target = _fetch(gradient.owner, made, given)
            found = None if place is None else _fetch(place, made, given)
            if gradient.adds and target._grad is not None and found is not None:
                ACCUMULATE(target._grad, found)
            else:
                target._grad, target._spent = found, gradient.spent


def _tensor(made: Made, outputs: Sequence[Array]) -> Tensor:
    array = outputs[made.output]
    x = wrap(array.copy() if made.shared else array)
    if made.leaf:
        x._leaf = True
    if made.storage is not Storage:
        x._storage = made.storage()
    return x


def _fetch(place: Place, made: Sequence[Tensor], given: Sequence[Tensor]) -> Tensor:
    if isinstance(place, Output):
        return made[place.index]
    if isinstance(place, Given):
        return given[place.index]
    if isinstance(place, Held):
        return place.tensor
    found = _fetch(place.source, made, given)
    for op, params in place.chain:  # what cannot be a view of a call's argument is a copy
        found = reshape(found, params["shape"]) if op is VIEW else op(found, **params)
    return found


Build: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Any]


def _builder(result: Any) -> Build:
    """How to make the return value; quick for plain containers of plain places."""
    kind = type(result)
    if kind is Output:
        index = result.index
        return lambda made, given: made[index]
    if kind in (tuple, list) and all(isinstance(x, Output) for x in result):
        order = [x.index for x in result]
        return lambda made, given: kind([made[i] for i in order])
    if kind in (tuple, list):
        parts = list(map(_builder, result))
        return lambda made, given: kind([part(made, given) for part in parts])
    if kind is dict:
        items = [(key, _builder(value)) for key, value in result.items()]
        return lambda made, given: {key: part(made, given) for key, part in items}

    def build(made: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        return map_result(lambda x: _fetch(x, made, given) if isinstance(x, _PLACES) else x, result)

    return build


def map_result(f: Callable[[Any], Any], tree: Any) -> Any:
    """The same containers and data classes with ``f`` applied to each leaf."""

    def through(leaf: Any) -> Any:
        if not is_dataclass(leaf) or isinstance(leaf, (type, *_PLACES)):
            return f(leaf)
        made = copy.copy(leaf)
        for part in fields(leaf):
            object.__setattr__(made, part.name, map_result(f, getattr(leaf, part.name)))
        return made

    return map_leaves(through, tree)
