"""The graph that a trace records and compiler passes rewrite: immutable, interned, readable.

    %0: f32[32,784] = input(position=0)
    %1: f32[128,784] = state(slot=0)
    %2: f32[32,128] = linear(%0, %1, None)
    %3: f32[32,128] = dropout_mask!0(%2, p=0.5)
    return %3
    update 0 = %1

Equal nodes are one node, so common subexpressions meet when they are made. A node marked
``unique`` (a random draw) equals only a node with the same mark. ``parse(graph.text())`` is
``graph``; ``verify`` says what every graph must obey.
"""

from __future__ import annotations

import ast
import math
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from types import EllipsisType
from typing import Any, Final, NamedTuple, TypeAlias, final
from weakref import WeakValueDictionary

import numpy as np

import ganglion.dtypes as dt
from ganglion.errors import ArgumentTypeError, GanglionError, GraphError
from ganglion.shapes import Meta, Shape

Param: TypeAlias = (
    "bool | int | float | str | dt.dtype | slice | EllipsisType | tuple[Param, ...] | None"
)
Params: TypeAlias = tuple[tuple[str, Param], ...]
Infer: TypeAlias = Callable[[str, tuple[Any, ...], dict[str, Any]], tuple[Meta, ...]]
Problems: TypeAlias = "Iterator[tuple[Node, str]]"

ATOMS: Final = (type(None), bool, int, float, str, dt.dtype, EllipsisType)
# The parameter that names a leaf among its kind; a constant is named by its value.
LEAVES: Final = {"input": "position", "state": "slot", "const": "value"}


@dataclass(frozen=True, slots=True)
class Value:
    """One output of a node."""

    node: Node
    index: int = 0

    @property
    def meta(self) -> Meta:
        return self.node.outputs[self.index]

    @property
    def shape(self) -> Shape:
        return self.meta.shape

    @property
    def dtype(self) -> dt.dtype:
        return self.meta.dtype


@final
class Node:
    """One op call: ``op_name``, ``inputs`` (None where one is left out), ``params``, ``outputs``.

    Making a node that exists returns it; a node that nothing refers to is freed. ``params`` are
    Python values, sorted by name; ``unique`` is a number given by whoever records the graph.
    """

    __slots__ = ("__weakref__", "inputs", "op_name", "outputs", "params", "spelling", "unique")

    op_name: str
    inputs: tuple[Value | None, ...]
    params: Params
    outputs: tuple[Meta, ...]
    unique: int | None
    spelling: str  # of the params; it tells 1 from True and 0.0 from -0.0, which are equal

    def __new__(
        cls,
        op_name: str,
        inputs: Iterable[Value | None] = (),
        params: Iterable[tuple[str, Any]] = (),
        outputs: Iterable[Meta] = (),
        unique: int | None = None,
    ) -> Node:
        plain = tuple((name, _plain(value)) for name, value in sorted(params, key=itemgetter(0)))
        spelling = ", ".join(f"{name}={_spell(value)}" for name, value in plain)
        key = (op_name, tuple(inputs), tuple(outputs), unique, spelling)
        with _lock:
            return _nodes.get(key) or _nodes.setdefault(key, cls._make(key, plain))

    @classmethod
    def _make(cls, key: tuple[Any, ...], params: Params) -> Node:
        made = object.__new__(cls)
        names = ("op_name", "inputs", "outputs", "unique", "spelling", "params")
        for name, value in zip(names, (*key, params), strict=True):
            object.__setattr__(made, name, value)
        return made

    def of(self, inputs: Iterable[Value | None]) -> Node:
        """The same call on other inputs of the same kinds."""
        key = (self.op_name, tuple(inputs), self.outputs, self.unique, self.spelling)
        with _lock:
            return _nodes.get(key) or _nodes.setdefault(key, self._make(key, self.params))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"nodes never change; make a new one to give it another {name}")

    def __repr__(self) -> str:
        return f"<node {_types(self.outputs)} = {self.op_name}>"

    @property
    def kwargs(self) -> dict[str, Any]:
        return dict(self.params)

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(Value(self, i) for i in range(len(self.outputs)))

    @property
    def operands(self) -> Iterator[Value]:
        """The inputs that are there."""
        return (value for value in self.inputs if value is not None)


_nodes: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()
_lock = threading.RLock()  # making a node may run finalizers that make nodes


def _plain(value: Any) -> Param:
    """A parameter as Python values: lists and sizes as tuples, NumPy scalars as numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in ATOMS:
        return value  # type: ignore[no-any-return]
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    if isinstance(value, slice):
        return slice(_plain(value.start), _plain(value.stop), _plain(value.step))
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    raise ArgumentTypeError(
        f"a graph cannot hold {value!r} of type {type(value).__name__} as a parameter; it takes "
        "numbers, strings, None, dtypes, slices and tuples of these. Pass arrays as inputs."
    )


def argument(position: int, meta: Meta) -> Value:
    """The step's argument at ``position``."""
    return Value(Node("input", (), (("position", position),), (meta,)))


def state(slot: int, meta: Meta) -> Value:
    """The captured tensor in ``slot``, as it is before the step's updates."""
    return Value(Node("state", (), (("slot", slot),), (meta,)))


def constant(value: bool | float | np.ndarray[Any, Any], dtype: dt.dtype) -> Value:
    """A Python number, or the content of a small array of ``dtype``."""
    if not isinstance(value, np.ndarray):
        return Value(Node("const", (), (("value", value),), (Meta((), dtype),)))
    wide = value.astype(np.float64) if dtype.is_floating_point else value
    return Value(
        Node("const", (), (("value", wide.ravel().tolist()),), (Meta(value.shape, dtype),))
    )


def content(node: Node) -> bool | float | np.ndarray[Any, Any]:
    """What a ``const`` node holds, as it was given to ``constant``."""
    value, meta = node.kwargs["value"], node.outputs[0]
    if not isinstance(value, tuple):
        return value  # type: ignore[no-any-return]
    return np.array(value, meta.dtype.numpy).reshape(meta.shape)


class Origin(NamedTuple):
    """Where the user wrote an op: ``train.py:31 encoder.layers.2``."""

    file: str
    line: int
    module: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.module}".rstrip()


@dataclass(frozen=True)
class Graph:
    """What one step computes from ``inputs`` and ``states``: ``outputs``, and new slot contents.

    ``origins`` tells people where nodes come from; it is no part of what a graph is.
    """

    inputs: tuple[Value, ...]
    states: tuple[Value, ...]
    outputs: tuple[Value, ...]
    updates: tuple[tuple[int, Value], ...] = ()
    origins: Mapping[Node, Origin] = field(default_factory=dict, compare=False, repr=False)

    @property
    def results(self) -> tuple[Value, ...]:
        """Everything a step must compute: outputs, then updates."""
        return self.outputs + tuple(value for _, value in self.updates)

    def topological(self) -> list[Node]:
        """Every node once, after those it reads: inputs, states, then as the results need them."""
        done: dict[Node, None] = {}
        for root in self.inputs + self.states + self.results:
            _visit(root.node, done)
        return list(done)

    def users(self) -> dict[Node, list[Node]]:
        """For every node, the nodes that read it, in order; each once per reading."""
        found: dict[Node, list[Node]] = {node: [] for node in self.topological()}
        for node in found:
            for value in node.operands:
                found[value.node].append(node)
        return found

    def text(self, origins: bool = False) -> str:
        """The graph as text that ``parse`` reads back; ``origins`` adds them as comments."""
        names = _names(self)
        lines = [_line(node, names) for node in names]
        if origins:
            notes = (f"  # {self.origins[n]}" if n in self.origins else "" for n in names)
            lines = [line + note for line, note in zip(lines, notes, strict=True)]
        lines.append(f"return {', '.join(_ref(value, names) for value in self.outputs)}".rstrip())
        lines += [f"update {slot} = {_ref(value, names)}" for slot, value in self.updates]
        return "\n".join(lines) + "\n"

    __str__ = text


def _visit(root: Node, done: dict[Node, None]) -> None:
    waiting = [root]
    while waiting:
        node = waiting[-1]
        before = [value.node for value in node.operands if value.node not in done]
        if before:
            waiting += reversed(before)
        else:
            done[waiting.pop()] = None


# --- text ----------------------------------------------------------------------------------------


def _names(graph: Graph) -> dict[Node, int]:
    return {node: number for number, node in enumerate(graph.topological())}


def _types(metas: tuple[Meta, ...]) -> str:
    return str(metas[0]) if len(metas) == 1 else f"({', '.join(map(str, metas))})"


def _ref(value: Value | None, names: Mapping[Node, int]) -> str:
    if value is None:
        return "None"
    index = f".{value.index}" if value.index or len(value.node.outputs) != 1 else ""
    return f"%{names[value.node]}{index}"


def _line(node: Node, names: Mapping[Node, int]) -> str:
    mark = "" if node.unique is None else f"!{node.unique}"
    arguments = [_ref(value, names) for value in node.inputs]
    arguments += [node.spelling] if node.spelling else []
    types = _types(node.outputs)
    return f"%{names[node]}: {types} = {node.op_name}{mark}({', '.join(arguments)})"


def _spell(value: Param) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_spell, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, slice):
        return f"slice({_spell(value.start)}, {_spell(value.stop)}, {_spell(value.step)})"
    if isinstance(value, dt.dtype):
        return value.short
    return "..." if value is ... else repr(value)


_DEFINITION: Final = re.compile(r"%(\d+): (.+?) = ([\w.]+)(?:!(\d+))?(\(.*)")
_META: Final = re.compile(r"(\w+)\[([\d,]*)\]")
_REF: Final = re.compile(r"""('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|%(\d+)(?:\.(\d+))?""")
_WORDS: Final[dict[str, Param]] = {
    "inf": math.inf, "nan": math.nan, **{d.short: d for d in dt.ALL},
}  # fmt: skip


def parse(text: str) -> Graph:
    """The graph that ``text`` describes, not yet verified; a bad line raises GraphError."""
    reader = _Reader()
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        try:
            reader.read(line)
        except (SyntaxError, ValueError, TypeError) as error:
            raise GraphError(f"line {number} of a graph's text, '{line}': {error}") from error
    return reader.graph()


class _Reader:
    """Reads line after line; what stands in parentheses is Python's syntax but for %1 and %1.2."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.outputs: tuple[Value, ...] = ()
        self.updates: list[tuple[int, Value]] = []

    def graph(self) -> Graph:
        inputs, states = (
            tuple(Value(node) for node in self.nodes.values() if node.op_name == kind)
            for kind in ("input", "state")
        )
        return Graph(inputs, states, self.outputs, tuple(self.updates))

    def read(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "return":
            self.outputs = tuple(map(self.value, self.call(f"({rest}\n)").args))
        elif word == "update":
            slot, _, source = rest.partition(" = ")
            (value,) = map(self.value, self.call(f"({source}\n)").args)
            self.updates.append((int(slot), value))
        elif line and not line.startswith("#"):
            self.define(line)

    def define(self, line: str) -> None:
        if not (found := _DEFINITION.fullmatch(line)):
            raise ValueError("expected '%0: f32[2,3] = name(...)', 'return ...' or 'update ...'")
        number, types, name, mark, call = found.groups()
        if number in self.nodes:
            raise ValueError(f"%{number} is defined twice")
        tree = self.call(call)
        inputs = [None if _is_none(part) else self.value(part) for part in tree.args]
        params = [(str(part.arg), _literal(part.value)) for part in tree.keywords]
        metas = [_meta(*parts) for parts in _META.findall(types)]
        self.nodes[number] = Node(name, inputs, params, metas, int(mark) if mark else None)

    def call(self, text: str) -> ast.Call:
        """The arguments in parentheses, as syntax; %1.2 becomes the index ``_[1, 2]``."""
        python = _REF.sub(lambda m: m[1] or f"_[{int(m[2])}, {int(m[3] or 0)}]", text)
        match ast.parse(f"_{python}", mode="eval").body:
            case ast.Call(func=ast.Name()) as found:
                return found
        raise SyntaxError("expected one pair of parentheses")

    def value(self, tree: ast.expr) -> Value:
        if not isinstance(tree, ast.Subscript):
            raise TypeError(f"expected a value such as %0, got '{ast.unparse(tree)}'")
        number, index = ast.literal_eval(tree.slice)
        if str(number) not in self.nodes:
            raise ValueError(f"%{number} is used before it is defined")
        return Value(self.nodes[str(number)], index)


def _is_none(tree: ast.expr) -> bool:
    return isinstance(tree, ast.Constant) and tree.value is None


def _meta(short: str, sizes: str) -> Meta:
    if not isinstance(dtype := _word(short), dt.dtype):
        raise TypeError(f"'{short}' is no dtype")
    return Meta(tuple(map(int, sizes.split(","))) if sizes else (), dtype)


def _word(name: str) -> Param:
    if name not in _WORDS:
        raise ValueError(f"'{name}' is no dtype")
    return _WORDS[name]


def _literal(tree: ast.expr) -> Any:
    match tree:
        case ast.Constant():
            return tree.value
        case ast.Name():
            return _word(tree.id)
        case ast.Tuple():
            return tuple(map(_literal, tree.elts))
        case ast.UnaryOp(op=ast.USub()):
            return -_literal(tree.operand)
        case ast.Call(func=ast.Name(id="slice")):
            return slice(*map(_literal, tree.args))
    raise ValueError(f"'{ast.unparse(tree)}' is no parameter")


# --- the specification ---------------------------------------------------------------------------


def verify(graph: Graph, infer: Infer | None = None) -> None:
    """Raise GraphError unless the graph obeys its rules; the message shows the lines around.

    Readings and shapes exist; leaves are listed in the graph, once each; an update fits its
    state. With ``infer(op_name, metas, params)``, recomputed metas equal the recorded ones.
    """
    rules = [_readings, _shapes, _leaves, _updates]
    for node, problem in chain.from_iterable(rule(graph) for rule in rules):
        raise _report(graph, node, problem)
    if infer:
        for node in graph.topological():
            if node.op_name not in LEAVES and (problem := _misfit(node, infer)):
                raise _report(graph, node, problem)


def _readings(graph: Graph) -> Problems:
    readings = [(node, value) for node in graph.topological() for value in node.operands]
    for node, value in readings + [(value.node, value) for value in graph.results]:
        source = value.node
        if not 0 <= value.index < len(source.outputs):
            count = len(source.outputs)
            yield node, f"reads output {value.index} of '{source.op_name}', which has {count}"


def _shapes(graph: Graph) -> Problems:
    for node in graph.topological():
        for meta in node.outputs:
            if not all(type(n) is int and n >= 0 for n in meta.shape):
                yield node, f"has an output of impossible shape, {meta}"


def _leaves(graph: Graph) -> Problems:
    listed = [("input", value.node) for value in graph.inputs]
    listed += [("state", value.node) for value in graph.states]
    names, known = Counter((kind, node.spelling) for kind, node in listed), set(listed)
    for kind, node in listed:
        if node.op_name != kind:
            yield node, f"is listed among the graph's {kind}s and is none"
        if names[kind, node.spelling] > 1:
            yield node, f"is listed twice among the graph's {kind}s"
    for node in graph.topological():
        if problem := _malformed(node) if node.op_name in LEAVES else "":
            yield node, problem
        if node.op_name in ("input", "state") and (node.op_name, node) not in known:
            yield node, f"is not listed among the graph's {node.op_name}s"


def _malformed(leaf: Node) -> str:
    key = LEAVES[leaf.op_name]
    if leaf.inputs or len(leaf.outputs) != 1 or [name for name, _ in leaf.params] != [key]:
        return f"must have no inputs, one output and the parameter '{key}' alone"
    value, meta = leaf.kwargs[key], leaf.outputs[0]
    count = len(value) if isinstance(value, tuple) else 1
    if leaf.op_name == "const" and count != meta.numel:
        return f"holds {count} values for {meta}"
    return ""


def _updates(graph: Graph) -> Problems:
    metas = {value.node.kwargs["slot"]: value.meta for value in graph.states}
    for slot, value in graph.updates:
        meta = metas.pop(slot, None)
        if meta is None:
            yield value.node, f"updates slot {slot}, which no state has, or for the second time"
        elif value.meta != meta:
            yield value.node, f"updates slot {slot}, which holds {meta}, with {value.meta}"


def _operand(value: Value | None) -> Any:
    """An input as a shape rule saw it while tracing: numbers as numbers."""
    if value is None:
        return None
    held = content(value.node) if value.node.op_name == "const" else None
    return value.meta if held is None or isinstance(held, np.ndarray) else held


def _misfit(node: Node, infer: Infer) -> str:
    try:
        found = tuple(infer(node.op_name, tuple(map(_operand, node.inputs)), node.kwargs))
    except GanglionError as error:
        return f"cannot take its inputs: {error}"
    if found == node.outputs:
        return ""
    return f"records {_types(node.outputs)}, but its inputs give {_types(found)}"


def _report(graph: Graph, node: Node, problem: str) -> GraphError:
    names = _names(graph)
    around = [value.node for value in node.operands] + [node] + graph.users()[node][:4]
    lines = [
        f"  {'>' if found is node else ' '} {_line(found, names)}"
        for found in dict.fromkeys(around)
    ]
    origin = f", from {graph.origins[node]}" if node in graph.origins else ""
    return GraphError("\n".join([f"%{names[node]} {node.op_name} {problem}{origin}", *lines]))
