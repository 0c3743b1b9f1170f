"""The record of an operation and the table of all of them.

An op is one record; eager execution, gradients, tracing and compiled code all follow from it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ganglion.dispatch import mode, write
from ganglion.errors import AutogradError, ShapeError
from ganglion.shapes import Shape, show

if TYPE_CHECKING:
    from ganglion.autograd.tape import Node
    from ganglion.tensor import Tensor

Kernel = Callable[..., Any]
Infer = Callable[..., Any]
Rule = Callable[["Saved", "Tensor"], "Tensor | None"]
JointRule = Callable[..., Sequence["Tensor | None"]]
Part = Callable[[Mapping[str, Any], int], tuple["Op", Mapping[str, Any]]]
Promote = Literal["none", "same", "float"]
Runs = Literal["native", "host", "eager-only"]

OPS: dict[str, Op] = {}
_homes: dict[str, dict[str, Any]] = {}  # the variables of the modules that define them

LETTERS = "xyzw"


def _importing() -> dict[str, Any]:
    """The variables of the module that is being imported."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return frame.f_globals


def _begun_anew(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a module is imported once more, after Ctrl-C during its first import."""
    return before is not now and before["__name__"] == now["__name__"]


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation; calling it sends it through ``bind``.

    ``kernel(*arrays, **params)`` returns NumPy arrays (a tuple when ``outputs`` > 1); inputs may
    also be Python numbers or None. ``infer(*metas, **params)`` gives the outputs' ``Meta``.
    ``vjp`` holds one rule per input, ``rule(saved, grad) -> grad of that input``, or is a single
    callable ``(saved, *grads) -> grads of all inputs``; rules are written in ops, and sums over
    broadcast dimensions and casts back are done by the caller. ``saves`` names what rules may
    read: x, y, z, w for inputs 0 to 3, ``o`` for the outputs, a digit for one of them, ``*`` for
    all inputs; one string for all rules, or one per rule, so that a call keeps only what its needed
    rules read.
    """

    name: str
    kind: str
    kernel: Kernel
    infer: Infer
    vjp: tuple[Rule | None, ...] | JointRule | None = None
    saves: str | tuple[str, ...] = ""
    promote: Promote = "none"  # "same": inputs meet in one dtype; "float": a floating one
    keeps: tuple[int, ...] = ()  # inputs that promotion leaves alone, such as conditions
    outputs: int = 1
    view: bool = False  # the output shares the first input's memory
    part: Part | None = None  # (params, i) -> the view op and params that give output i alone
    donates: tuple[int, ...] = ()  # inputs that the kernel overwrites and returns, in this order
    random: bool = False  # never interned: two equal calls are two draws
    in_float32: bool = True  # float16 and bfloat16 inputs are computed in float32, then rounded
    decompose: Callable[..., Any] | None = None  # a composite, written in ops
    flops: Callable[..., int] | None = None  # of (*metas, **params); else one per output element
    vjp_takes_none: bool = False  # a joint rule that wants None for outputs without gradient
    scalar: Callable[..., Any] | None = None  # elementwise: an element from the inputs' elements
    element: Callable[..., Any] | None = None  # others: the element at an index (ops/scalar.py)
    sweep: Callable[..., Any] | None = None  # a scan or a scatter of elements (ops/sweep.py)
    runs: Runs = "native"  # where it may run compiled
    heavy: int = 0  # FLOPs from which an eager call takes a compiled kernel (heavy.py); 0: never
    reads: dict[int, tuple[int, ...]] = field(init=False, default_factory=dict)  # see read_by

    def __post_init__(self) -> None:
        home = _importing()
        if self.name in OPS and not _begun_anew(_homes.get(self.name, home), home):
            raise ValueError(f"op '{self.name}' is defined twice")
        OPS[self.name], _homes[self.name] = self, home

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        return mode.listener.bind(self, inputs, params)

    def read_by(self, wanted: int) -> tuple[int, ...]:
        """What the rules of some inputs read: input i as i, output i as ~i.

        Bit i of ``wanted`` says whether input i takes a gradient; one more bit ends the number.
        """
        count = wanted.bit_length() - 1
        each = self.saves if isinstance(self.saves, tuple) else (self.saves,) * count
        letters = "".join([s for i, s in enumerate(each) if wanted >> i & 1])
        inputs = [i for i in range(count) if "*" in letters or LETTERS[i : i + 1] in [*letters]]
        outputs = [~i for i in range(self.outputs) if "o" in letters or str(i) in letters]
        found = self.reads[wanted] = (*inputs, *outputs)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return OPS.__getitem__, (self.name,)

    def __repr__(self) -> str:
        return f"<op {self.name}>"


class Saved:
    """What a gradient rule may look at: saved inputs and outputs, shapes, dtypes, params."""

    __slots__ = ("_create", "_edges", "node")

    def __init__(self, node: Node, edges: Sequence[Any], create: bool) -> None:
        self.node, self._edges, self._create = node, edges, create

    def __getitem__(self, name: str) -> Any:
        return self.node.params[name]

    @property
    def params(self) -> Mapping[str, Any]:
        return self.node.params

    @property
    def shapes(self) -> Sequence[Shape]:
        """Shapes of the inputs; () for numbers."""
        return self.node.shapes

    @property
    def dtypes(self) -> Sequence[Any]:
        """NumPy dtypes of the inputs; None for numbers."""
        return self.node.dtypes

    @property
    def needs(self) -> tuple[bool, ...]:
        """For each input whether its gradient is wanted."""
        return tuple([e is not None for e in self._edges])

    @property
    def x(self) -> Any:
        return self.node.saved_input(0, self._create)

    @property
    def y(self) -> Any:
        return self.node.saved_input(1, self._create)

    @property
    def z(self) -> Any:
        return self.node.saved_input(2, self._create)

    @property
    def w(self) -> Any:
        return self.node.saved_input(3, self._create)

    @property
    def out(self) -> Any:
        """The output, or the tuple of outputs."""
        if self.node.op.outputs == 1:
            return self.node.saved_output(0, self._create)
        return tuple([self.node.saved_output(i, self._create) for i in range(self.node.op.outputs)])

    def output(self, i: int) -> Any:
        """One output (ops that save its digit)."""
        return self.node.saved_output(i, self._create)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """All inputs (ops that save ``*``)."""
        return tuple([self.node.saved_input(i, self._create) for i in range(len(self._edges))])


def into(out: Tensor | None, value: Tensor) -> Tensor:
    """Serve ``out=``: store the result there and return it; without one, the result itself."""
    if out is None:
        return value
    if out.requires_grad or value.requires_grad:
        raise AutogradError(
            "functions with out=... arguments don't support automatic differentiation, but one of "
            "the arguments requires grad."
        )
    if out._data.shape != value._data.shape:
        if out._data.size:
            raise ShapeError(
                f"out has shape {show(out._data.shape)} but the result has "
                f"{show(value._data.shape)}; pass an out of that shape, or an empty tensor"
            )
        out.resize_(value._data.shape)
    return write(out, value)


def in_place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The in-place method of an op: compute, then store into the tensor itself."""

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return write(self, function(self, *args, **kwargs))

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"In-place version of ``{function.__name__}``."
    return method
