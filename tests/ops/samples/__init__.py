"""Sample calls of every op, one line each, run in Ganglion and in PyTorch alike.

``Sample("add", t(3, 4), t(4), alpha=2)`` calls ``ganglion.add`` and ``torch.add`` on equal random
tensors. The name may be a path (``"nn.functional.gelu"``, ``"Tensor.add_"``, ``"linalg.norm"``) or
a function of the library: ``Sample(lambda lib, x: lib.exp(x)[0], t(3))``. Inputs may be nested
(``[t(2), t(3)]``) and given by keyword; numbers and strings pass as they are.

    t(2, 3)                    random in [-2, 2), of the dtype being walked, differentiable
    t(2, 3, low=0.1, high=9)   in another range (integers include ``high``)
    t(5, distinct=True)        a shuffle of evenly spaced values: no ties
    t(5, dtype="float64")      of this dtype whatever is walked
    t(5, grad=False)           takes no gradient
    values([0, nan, -inf])     these very values
    indices(4, below=10)       int64 in [0, 10)
    mask(2, 3)                 random booleans
    d("int64")                 a dtype argument

Each file here has a list ``SAMPLES`` and may have ``REFUSED``; `tests/ops/test_table.py` walks
them all: over the sample's ``dtypes``, contiguous and not, values, shapes, dtypes, gradients,
finite differences of first and second order, and each op's shape rule.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.tree import leaves, map_leaves

HALVES = ("float16", "bfloat16")
SINGLES = ("float32", "float64")
FLOATS = (*HALVES, *SINGLES)
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
EXACT = ("bool", *INTEGERS)
NUMBERS = (*INTEGERS, *FLOATS)
ALL = ("bool", *NUMBERS)


@dataclass(frozen=True, eq=False)
class Input:
    """How to make one tensor."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    dtype: str | None = None  # None: the one being walked
    grad: bool = True
    given: Any = None  # the very values
    distinct: bool = False

    def array(self, walked: str, rng: np.random.Generator) -> np.ndarray:
        """The values, in the NumPy form of the dtype."""
        target = dt.BY_NAME[self.dtype or walked]
        found = np.asarray(self._values(target, rng))
        return found.astype(np.float32 if target.name == "bfloat16" else found.dtype).astype(
            target.numpy
        )

    def _values(self, target: dt.dtype, rng: np.random.Generator) -> Any:
        low, high = self.low if target.signed else max(self.low, 0), self.high
        if self.given is not None:
            return self.given
        if self.distinct:
            count = int(np.prod(self.shape))
            spaced = np.arange(count) if target.category != dt.FLOATING else None
            found = np.linspace(low, high, count) if spaced is None else spaced
            return rng.permutation(found).reshape(self.shape)
        if target.category == dt.FLOATING:
            return rng.uniform(low, high, self.shape)
        if target.category == dt.BOOL:
            return rng.integers(0, 2, self.shape)
        return rng.integers(int(np.ceil(low)), int(np.floor(high)) + 1, self.shape)

    def __repr__(self) -> str:
        inside = str(self.given) if self.given is not None else "x".join(map(str, self.shape))
        return f"{self.dtype or ''}[{inside}]"


@dataclass(frozen=True)
class DType:
    """A dtype as an argument."""

    name: str

    def __repr__(self) -> str:
        return self.name


def t(*shape: int, **options: Any) -> Input:
    """A random tensor; the options are those of ``Input``."""
    return Input(shape, **options)


def values(given: Any, dtype: str | None = None, grad: bool = True) -> Input:
    """A tensor of these very values."""
    return Input(np.shape(given), given=given, dtype=dtype, grad=grad)


def indices(*shape: int, below: int) -> Input:
    """Random positions in [0, below)."""
    return Input(shape, 0, below - 1, "int64", grad=False)


def mask(*shape: int) -> Input:
    """Random booleans."""
    return Input(shape, dtype="bool", grad=False)


def d(name: str) -> DType:
    """A dtype argument, by PyTorch's name."""
    return DType(name)


class Call:
    """A function by name (or as a function of the library) and its arguments."""

    def __init__(self, call: Any, *inputs: Any, **kwargs: Any) -> None:
        self.call, self.inputs, self.kwargs = call, inputs, kwargs

    @property
    def specs(self) -> list[Input]:
        """Every tensor to make, in order."""
        return [x for x in leaves([self.inputs, self.kwargs]) if isinstance(x, Input)]

    def arrays(self, walked: str, seed: int = 0) -> list[np.ndarray]:
        """The values of every tensor."""
        rng = np.random.default_rng([seed, *str(self).encode()])
        return [spec.array(walked, rng) for spec in self.specs]

    def run(self, lib: Any, tensors: list[Any]) -> Any:
        """Make the call with ``tensors`` in place of their descriptions."""
        remaining = iter(tensors)

        def put(leaf: Any) -> Any:
            if isinstance(leaf, Input):
                return next(remaining)
            return getattr(lib, leaf.name) if isinstance(leaf, DType) else leaf

        args = map_leaves(put, self.inputs)
        kwargs = map_leaves(put, self.kwargs)
        if callable(self.call):
            return self.call(lib, *args, **kwargs)
        function = lib
        for part in self.call.split("."):
            function = getattr(function, part)
        return function(*args, **kwargs)

    def __str__(self) -> str:
        name = self.call if isinstance(self.call, str) else _source_name(self.call)
        args = [*map(repr, self.inputs), *(f"{k}={v!r}" for k, v in self.kwargs.items())]
        return f"{name}({','.join(args)})".replace(" ", "")


def _source_name(function: Any) -> str:
    return ".".join([function.__name__.strip("<>"), *function.__code__.co_names])


class Sample(Call):
    """A call that works.

    ``dtypes`` are walked one by one. ``smooth=False`` leaves out finite differences (a kink, an
    infinity); ``parity=False`` leaves out PyTorch, where it has no such function or other random
    numbers; ``tolerance`` multiplies the allowed error.
    """

    def __init__(
        self,
        call: Any,
        *inputs: Any,
        dtypes: tuple[str, ...] = FLOATS,
        smooth: bool = True,
        parity: bool = True,
        tolerance: float = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(call, *inputs, **kwargs)
        self.dtypes, self.smooth, self.parity = dtypes, smooth, parity
        self.tolerance = tolerance


class Refused(Call):
    """A call that must raise ``error`` with ``match`` in its message (a regular expression).

    PyTorch must refuse it too (with ``torch_error``, if another kind), unless ``parity=False``:
    where we are strict on purpose.
    """

    def __init__(
        self,
        call: Any,
        *inputs: Any,
        error: type[Exception] = RuntimeError,
        match: str = "",
        dtype: str = "float32",
        parity: bool = True,
        torch_error: type[Exception] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(call, *inputs, **kwargs)
        self.error, self.match, self.dtype, self.parity = error, match, dtype, parity
        self.torch_error = torch_error or error
