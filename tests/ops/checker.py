"""What a sample is checked for: shape rules, PyTorch's values and gradients, finite differences."""

import math
import warnings
from typing import Any, Self

import numpy as np

import ganglion
import ganglion.dtypes as dt
from ganglion import autograd, eager
from ganglion.compiler import interpret, trace
from ganglion.dispatch import mode
from ganglion.errors import TraceError
from ganglion.ops.record import Op
from ganglion.shapes import Meta
from ganglion.tensor import Tensor, wrap
from ganglion.tree import leaves
from tests.ops.samples import Sample

RTOL = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5, "float64": 1e-11}
ATOL = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6, "float64": 1e-12}
STEP = 1e-6  # of central differences


# --- building and calling -------------------------------------------------------------------------


def gapped(a: np.ndarray) -> np.ndarray:
    """The same values, not contiguous: dimensions in reverse order, every second element."""
    if not a.ndim:
        return a
    wide = np.zeros((*reversed(a.shape[1:]), a.shape[0] * 2), a.dtype)[..., ::2].T
    wide[...] = a
    return wide


def ours(arrays: list[np.ndarray]) -> list[Tensor]:
    return [wrap(a.copy("K") if a.flags.c_contiguous else gapped(a)) for a in arrays]


def theirs(torch: Any, arrays: list[np.ndarray]) -> list[Any]:
    """PyTorch's tensors with the same values and strides."""

    def one(a: np.ndarray) -> Any:
        if a.dtype.name == "bfloat16":
            return torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16)
        return torch.from_numpy(a.copy("K") if a.flags.c_contiguous else gapped(a))

    return [one(a) for a in arrays]


def differentiable(sample: Sample, arrays: list[np.ndarray], only: str = "") -> list[int]:
    """Which tensors take gradients (``only`` those of one dtype)."""
    names = [dt.of_numpy(a.dtype).name for a in arrays]
    chosen = [name == only if only else dt.BY_NAME[name].is_floating_point for name in names]
    return [i for i, spec in enumerate(sample.specs) if spec.grad and chosen[i]]


def wanted(tensors: list[Any], which: list[int]) -> list[Any]:
    """Those tensors as leaves that want gradients; the calls get copies, free to be written."""
    return [tensors[i].requires_grad_() for i in which]


def fresh(tensors: list[Any], which: list[int]) -> list[Any]:
    return [x.clone() if i in which else x for i, x in enumerate(tensors)]


def referred(sample: Sample, torch: Any, tensors: list[Any]) -> Any:
    """The call in PyTorch, whose advice to its users does not concern us."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sample.run(torch, tensors)


def float_leaves(result: Any) -> list[Any]:
    """The floating-point tensors of a result."""
    return [x for x in leaves(result) if hasattr(x, "requires_grad") and x.dtype.is_floating_point]


# --- comparing ------------------------------------------------------------------------------------


def plain(x: Any) -> Any:
    """A tensor of either library as a NumPy array that can be compared."""
    if isinstance(x, Tensor):
        return x._data.astype(np.float64) if x.dtype is dt.bfloat16 else x._data
    x = x.detach()
    return (x.double() if x.dtype.is_floating_point else x).numpy(force=True)


def assert_equal(mine: Any, other: Any, tolerance: float, what: str) -> None:
    """The same structure, shapes, dtypes, and values within the dtype's tolerance."""
    a, b = leaves(mine), leaves(other)
    assert len(a) == len(b), f"{what}: {len(a)} results, PyTorch gives {len(b)}"
    for x, y in zip(a, b, strict=True):
        if isinstance(x, Tensor):
            assert_tensor(x, y, tolerance, what)
        else:
            assert_plain(x, y, what)


def assert_plain(x: Any, y: Any, what: str) -> None:
    same = x == y or str(x).split(".")[-1] == str(y).split(".")[-1]
    same = same or (isinstance(x, float) and math.isclose(x, y, rel_tol=1e-5))
    assert same, f"{what}: {x!r}, PyTorch gives {y!r}"


def assert_tensor(x: Tensor, y: Any, tolerance: float, what: str) -> None:
    name = str(y.dtype).removeprefix("torch.")
    assert x.dtype.name == name, f"{what}: dtype {x.dtype.name}, PyTorch gives {name}"
    assert tuple(x.shape) == tuple(y.shape), f"{what}: {x.shape}, PyTorch gives {y.shape}"
    rtol, atol = RTOL.get(name, 0) * tolerance, ATOL.get(name, 0) * tolerance
    np.testing.assert_allclose(plain(x), plain(y), rtol, atol, err_msg=what)


def positions(result: Any, tensors: list[Any]) -> list[int | None]:
    """Which of the given tensors each result is, for in-place calls and ``out=``."""
    found = [[i for i, x in enumerate(tensors) if x is r] for r in leaves(result)]
    return [f[0] if f else None for f in found]


# --- the checks -----------------------------------------------------------------------------------


def check_forward(sample: Sample, torch: Any, dtype: str, gaps: bool) -> None:
    """Values, dtype, shape, what is written and what is returned: as PyTorch."""
    arrays = [gapped(a) if gaps else a for a in sample.arrays(dtype)]
    mine, other = ours(arrays), theirs(torch, arrays)
    result, reference = sample.run(ganglion, mine), referred(sample, torch, other)
    what = f"{sample} in {dtype}" + (", not contiguous" if gaps else "")
    assert_equal(result, reference, sample.tolerance, what)
    assert_equal(mine, other, sample.tolerance, f"{what}: inputs afterwards")
    assert positions(result, mine) == positions(reference, other), f"{what}: what is returned"


def check_gradients(sample: Sample, torch: Any, dtype: str) -> None:
    """Gradients of all floating inputs, for random gradients of the outputs: as PyTorch."""
    arrays = sample.arrays(dtype)
    which = differentiable(sample, arrays)
    mine, other = ours(arrays), theirs(torch, arrays)
    x, y = wanted(mine, which), wanted(other, which)
    result = float_leaves(sample.run(ganglion, fresh(mine, which)))
    reference = float_leaves(referred(sample, torch, fresh(other, which)))
    flows = [r.requires_grad for r in reference]
    assert [r.requires_grad for r in result] == flows, f"{sample}: requires_grad of the results"
    if not any(flows):
        return
    pushed = [g for g, flow in zip(noise(result), flows, strict=True) if flow]
    result = [r for r in result if r.requires_grad]
    reference = [r for r in reference if r.requires_grad]
    got = autograd.grad(result, x, ours(pushed), allow_unused=True)
    expected = torch.autograd.grad(reference, y, theirs(torch, pushed), allow_unused=True)
    for i, (g, e) in enumerate(zip(got, expected, strict=True)):
        g, e = zero_if_unused(g, x[i]), torch.zeros_like(y[i]) if e is None else e
        assert_tensor(g, e, sample.tolerance, f"{sample} in {dtype}: gradient {i}")


def noise(tensors: list[Any], seed: int = 1) -> list[np.ndarray]:
    """Random arrays like the given tensors."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.normal(size=x._data.shape)).astype(x._data.dtype) for x in tensors]


def zero_if_unused(grad: Tensor | None, x: Tensor) -> Tensor:
    return wrap(np.zeros_like(x._data)) if grad is None else grad


def flowing(sample: Sample, tensors: list[Tensor], which: list[int]) -> list[Tensor]:
    """The outputs through which gradients flow."""
    outs = float_leaves(sample.run(ganglion, fresh(tensors, which)))
    return [out for out in outs if out.requires_grad]


def inner(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b, strict=True)))


def pullback(
    sample: Sample, arrays: list[np.ndarray], which: list[int], pushed: list[np.ndarray]
) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the inputs (with history) for gradients ``pushed`` of the outputs.

    Also returned: the tensors that these gradients depend on, inputs first, then ``pushed``.
    """
    tensors = ours(arrays)
    x = wanted(tensors, which)
    w = [v.requires_grad_() for v in ours(pushed)]
    outs = flowing(sample, tensors, which)
    found = autograd.grad(outs, x, w, create_graph=True, allow_unused=True)
    return [zero_if_unused(g, v) for g, v in zip(found, x, strict=True)], [*x, *w]


def moved(
    arrays: list[np.ndarray], which: list[int], directions: list[np.ndarray], step: float
) -> list[np.ndarray]:
    out = list(arrays)
    for i, v in zip(which, directions, strict=True):
        out[i] = arrays[i] + step * v
    return out


def assert_slope(exact: float, up: float, down: float, scale: float, what: str) -> None:
    """The exact slope equals the central difference, as far as rounding of the values allows."""
    numeric = (up - down) / (2 * STEP)
    allowed = 2e-6 * (1 + abs(exact)) + 1e-8 * scale
    assert abs(exact - numeric) <= allowed, f"{what}: {exact} but differences give {numeric}"


def check_differences(sample: Sample) -> None:
    """First order: the gradient along a random direction equals central differences."""
    arrays = sample.arrays("float64")
    which = differentiable(sample, arrays, only="float64")
    tensors = ours(arrays)
    wanted(tensors, which)
    outs = flowing(sample, tensors, which)
    if not outs:
        return
    pushed, v = noise(outs), noise([tensors[i] for i in which], seed=2)
    grads, _ = pullback(sample, arrays, which, pushed)

    def value(step: float) -> float:
        point = ours(moved(arrays, which, v, step))
        wanted(point, which)
        return inner([o._data for o in flowing(sample, point, which)], pushed)

    scale = inner([np.abs(o._data) for o in outs], [np.abs(p) for p in pushed])
    exact = inner([g._data for g in grads], v)
    assert_slope(exact, value(STEP), value(-STEP), scale, f"{sample}: first order")


def check_second_differences(sample: Sample) -> None:
    """Second order: gradients of gradients, with respect to inputs and to output gradients."""
    arrays = sample.arrays("float64")
    which = differentiable(sample, arrays, only="float64")
    tensors = ours(arrays)
    wanted(tensors, which)
    outs = flowing(sample, tensors, which)
    if not outs:
        return
    pushed = noise(outs)
    grads, base = pullback(sample, arrays, which, pushed)
    u, v = noise(grads, seed=3), noise(base, seed=4)
    split = len(which)

    def value(step: float) -> float:
        weights = [p + step * q for p, q in zip(pushed, v[split:], strict=True)]
        point = moved(arrays, which, v[:split], step)
        return inner([g._data for g in pullback(sample, point, which, weights)[0]], u)

    live = [(g, wrap(p)) for g, p in zip(grads, u, strict=True) if g.requires_grad]
    exact = 0.0
    if live:
        found = autograd.grad([g for g, _ in live], base, [p for _, p in live], allow_unused=True)
        exact = inner([zero_if_unused(g, x)._data for g, x in zip(found, base, strict=True)], v)
    scale = inner([np.abs(g._data) for g in grads], [np.abs(p) for p in u])
    assert_slope(exact, value(STEP), value(-STEP), scale, f"{sample}: second order")


# --- the listener that checks every op call -------------------------------------------------------


class Watch(eager.Eager):
    """Runs calls eagerly and compares each with its record; remembers the ops it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.differentiated: set[str] = set()
        self.saw_values = False  # which a trace cannot

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Any) -> Any:
        inputs = eager.promoted(op, inputs)
        metas = [Meta(x._data.shape, x.dtype) if isinstance(x, Tensor) else x for x in inputs]
        if mode.grad and any(isinstance(x, Tensor) and x.requires_grad for x in inputs):
            self.differentiated.add(op.name)
        self.seen.add(op.name)
        assert_plain_params(op, params)
        result = super().bind(op, inputs, params)
        if op.runs == "eager-only":  # no rule can tell a shape that depends on values
            self.saw_values = True
            return result
        promised = op.infer(*metas, **params)
        promises = promised if op.outputs > 1 else (promised,)
        results = result if op.outputs > 1 or op.donates else (result,)
        for r, m in zip(results, promises, strict=True):
            assert_kept(op, r, m)
            assert_memory(op, r, inputs)
        return result

    def read(self, tensor: Tensor) -> Any:
        self.saw_values = True
        return super().read(tensor)

    def __enter__(self) -> Self:
        self._previous, mode.listener = mode.listener, self
        return self

    def __exit__(self, *exc: object) -> None:
        mode.listener = self._previous


PLAIN = (int, float, str, slice, dt.dtype, type(None))


def assert_plain_params(op: Op, params: Any) -> None:
    """Params are stored in graph nodes: numbers, names, dtypes, slices and tuples of them."""

    def is_plain(x: Any) -> bool:
        return all(map(is_plain, x)) if isinstance(x, tuple) else isinstance(x, PLAIN)

    for name, value in params.items():
        assert is_plain(value), f"{op.name}: a graph cannot store {name}={value!r}"


def assert_kept(op: Op, result: Tensor, promised: Meta) -> None:
    found = Meta(result._data.shape, result.dtype)
    assert found == promised, f"{op.name}: infer says {promised}, the kernel returned {found}"


def assert_memory(op: Op, result: Tensor, inputs: tuple[Any, ...]) -> None:
    """Views share their input's memory; everything else has its own, and may be written."""
    given = [x for x in inputs if isinstance(x, Tensor)]
    if op.donates or not result._data.size:
        return
    if op.view:
        assert np.may_share_memory(result._data, given[0]._data), f"{op.name} copied"
        return
    shared = any(np.may_share_memory(result._data, x._data) for x in given)
    assert not shared, f"{op.name} returned an input's memory but is not a view"
    assert result._data.flags.writeable, f"{op.name} returned a read-only array"


def walk_gradients(sample: Sample) -> None:
    """Forward and backward with history, so that a watch sees which ops take part."""
    arrays = sample.arrays("float64")
    which = differentiable(sample, arrays)
    tensors = ours(arrays)
    wanted(tensors, which)
    outs = flowing(sample, tensors, which)
    if outs:
        pullback(sample, arrays, which, noise(outs))


# --- traced ---------------------------------------------------------------------------------------


def check_traced(sample: Sample, dtype: str) -> None:
    """Traced and interpreted, a call and its gradients have the bits they have eagerly.

    Composites computed by their decompositions agree within the dtype's tolerance.
    """
    arrays = sample.arrays(dtype)
    which = differentiable(sample, arrays)

    def step(*tensors: Any) -> Any:
        tensors = list(tensors)
        x = wanted(tensors, which)
        given = fresh(tensors, which)
        result = sample.run(ganglion, given)
        outs = [out for out in float_leaves(result) if out.requires_grad]
        pushed = [wrap(w) for w in noise(outs)]
        grads = autograd.grad(outs, x, pushed, allow_unused=True) if outs else ()
        found = [*leaves(result), *given, *(g for g in grads if g is not None)]
        return [x for x in found if isinstance(x, Tensor)]

    ganglion.manual_seed(0)
    with Watch() as watch:
        expected = [x._data for x in step(*ours(arrays))]
    try:
        program = trace.trace(step, *ours(arrays))
    except TraceError:
        assert watch.saw_values, f"{sample}: a trace refuses what it could follow"
        return
    for decomposed in (False, True):
        ganglion.manual_seed(0)
        found = interpret.run(program, *ours(arrays), decomposed=decomposed)
        for x, y in zip(found, expected, strict=True):
            assert_same_bits(x._data, y, decomposed, f"{sample} in {dtype}, traced")


def assert_same_bits(x: np.ndarray, y: np.ndarray, roughly: bool, what: str) -> None:
    name = dt.of_numpy(y.dtype).name
    rtol, atol = (RTOL.get(name, 0), ATOL.get(name, 0)) if roughly else (0, 0)
    assert x.dtype == y.dtype, f"{what}: dtype {x.dtype}, not {y.dtype}"
    wide = [a.astype(np.float64) if name == "bfloat16" else a for a in (x, y)]
    np.testing.assert_allclose(*wide, rtol, atol, err_msg=what)
