import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, packed
from ganglion.compiler.kernels import attention as forward
from ganglion.compiler.kernels import attention_grad as backward
from ganglion.compiler.kernels import heads
from ganglion.compiler.kernels.tile import AVX2, AVX512
from ganglion.ops.attention import ATTENTION, ATTENTION_GRAD
from tests.compiler.kernels.layouts import layouts
from tests.compiler.kernels.plans import CompiledPlan

INPUTS = ("q", "k", "v", "mask", "keep")
FORWARD = (forward.attention, INPUTS, ("out", "lse"))
BACKWARD = (backward.attention_grad, ("g", *INPUTS, "out", "lse"), ("dq", "dk", "dv"))
SIZES = st.one_of(st.integers(1, 20), st.sampled_from((32, 33, 48, 64, 65, 70)))


class Case:
    """Inputs that are numbers of ``dtype``, and what the eager kernels make of them in float64."""

    def __init__(
        self, queries=9, keys=9, depth=5, width=5, batch=(2, 3), dtype=dt.float32, causal=False,
        mask="none", drop=False, lead=0, size=1.0, scale=None,
    ):  # fmt: skip
        rng = np.random.default_rng(queries * 1000 + keys)
        self.dtype, self.causal = dtype, causal
        self.scale = 1 / math.sqrt(depth) if scale is None else scale
        scores = (*batch, queries, keys)
        shapes = [(queries, depth), (keys, depth), (keys, width), (queries, width)]
        q, k, v, g = (rng.standard_normal((*batch, *s)) for s in shapes)
        self.arrays = {
            "q": q * size, "k": k, "v": v, "g": g, "mask": some_mask(rng, mask, scores[lead:]),
            "keep": (rng.random(scores) < 0.7) / 0.7 if drop else None,
        }  # fmt: skip
        self.arrays = {name: self.rounded(a) for name, a in self.arrays.items()}
        self.compute()

    def rounded(self, a):
        return a if a is None or a.dtype == bool else a.astype(self.dtype.numpy).astype(np.float64)

    def compute(self):
        found, options = self.arrays, {"causal": self.causal, "scale": self.scale}
        inputs = [found[name] for name in INPUTS]
        with np.errstate(all="ignore"):
            out, lse = (self.rounded(a) for a in ATTENTION.kernel(*inputs, **options))
            grads = ATTENTION_GRAD.kernel(found["g"], *inputs, out, lse, **options)
        names = ("out", "lse", "dq", "dk", "dv")
        found.update(zip(names, (out, lse, *grads), strict=True))

    def layout(self, name, choose=packed):
        array = self.arrays[name]
        if array is None:
            return None
        return choose(dt.bool_ if array.dtype == bool else self.dtype, array.shape)

    def run(self, what, threads=1, target=AVX512, choose=packed):
        """The results of the native code."""
        function, inputs, results = what
        chosen = {name: self.layout(name, choose) for name in (*inputs, *results)}
        plan = function(*chosen.values(), causal=self.causal, scale=self.scale, target=target)
        pairs = [
            (layout, self.arrays[name] if name in inputs else None)
            for name, layout in chosen.items()
            if layout is not None
        ]
        views = CompiledPlan(plan)(pairs, threads=threads)
        return [view.copy() for view in views[len(pairs) - len(results) : len(pairs)]]

    def check(self, what, **options):
        queries, keys = self.arrays["q"].shape[-2], self.arrays["k"].shape[-2]
        eps = np.finfo(self.dtype.numpy).eps
        for name, found in zip(what[2], self.run(what, **options), strict=True):
            wanted = self.arrays[name]
            size = max(1, np.nanmax(np.abs(wanted), where=np.isfinite(wanted), initial=0))
            error = 20 * math.sqrt(queries + keys) * eps * size
            np.testing.assert_allclose(found, wanted, rtol=0, atol=error, err_msg=name)


def some_mask(rng, kind, shape):
    """None, bools, or numbers of which some are minus infinity; some rows see no key at all."""
    if kind == "none":
        return None
    hidden = rng.random(shape) < 0.3
    hidden[..., :1, :] = True
    return ~hidden if kind == "bool" else np.where(hidden, -np.inf, rng.standard_normal(shape))


cases = st.builds(
    Case, SIZES, SIZES, st.integers(1, 35), st.integers(1, 35),
    st.sampled_from(((), (1,), (2,), (2, 3))), st.sampled_from((dt.float32, dt.float64)),
    st.booleans(), st.sampled_from(("none", "bool", "float")), st.booleans(),
)  # fmt: skip
both = pytest.mark.parametrize("what", [FORWARD, BACKWARD], ids=("forward", "backward"))


def small_blocks(patch, keys, weights=1 << 15, tasks=16):
    """So that small cases have several blocks of keys and chunks of rows."""
    patch.setattr(forward, "KEYS", keys)
    patch.setattr(backward, "KEYS", keys)
    patch.setattr(backward, "WEIGHTS", weights)
    patch.setattr(backward, "TASKS", tasks)
    patch.setattr(heads, "TASKS", tasks)


@both
@given(
    data=st.data(), case=cases, keys=st.sampled_from((32, 64, 512)),
    weights=st.sampled_from((512, 1 << 15)), tasks=st.sampled_from((1, 4, 16)),
    threads=st.sampled_from((1, 3)),
)  # fmt: skip
def test_native_attention_equals_the_eager_one(what, data, case, keys, weights, tasks, threads):
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, keys, weights, tasks)
        case.check(
            what, threads=threads, choose=lambda dtype, shape: data.draw(layouts(dtype, shape))
        )


@both
def test_keys_that_no_row_sees(what):
    case = Case(2, 75, causal=True)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, 32)
        case.check(what)


@both
def test_heads_are_views_into_one_projection(what):
    batch, length, count, depth = 2, 40, 3, 16
    case = Case(length, length, depth, depth, (batch, count), causal=True)
    wide = count * depth

    def choose(dtype, shape):
        if shape[-1] != depth:
            return packed(dtype, shape)
        strides = (length * 3 * wide, depth, 3 * wide, 1)
        return Layout(dtype, shape, strides, wide, batch * length * 3 * wide)

    case.check(what, choose=choose)


@both
@pytest.mark.parametrize("shape", [(3, 1, 70), (1, 9, 1), (70,), (1, 1)])
def test_masks_broadcast_to_the_scores(what, shape):
    case = Case(9, 70, batch=(2, 3))
    case.arrays["mask"] = case.rounded(np.random.default_rng(0).standard_normal(shape))
    case.compute()
    case.check(what)


def test_a_mask_may_have_lower_precision():
    case = Case(9, 20, dtype=dt.float64, mask="float")
    case.arrays["mask"] = case.arrays["mask"].astype(np.float32)
    case.compute()
    layout = case.layout
    case.layout = lambda name, choose: (
        packed(dt.float32, case.arrays[name].shape) if name == "mask" else layout(name, choose)
    )
    case.check(FORWARD)


@both
@pytest.mark.parametrize("heads_", [1, 6])
@pytest.mark.parametrize("causal", [False, True])
def test_bits_do_not_depend_on_threads_and_tiles(what, heads_, causal):
    case = Case(75, 90, 24, 20, (heads_,), causal=causal, mask="float", drop=True)
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, 64, 1024)
        first = case.run(what)
        for options in ({"threads": 2}, {"threads": 3}, {"threads": 7}, {"target": AVX2}):
            for a, b in zip(first, case.run(what, **options), strict=True):
                np.testing.assert_array_equal(a, b, err_msg=str(options))


@both
@pytest.mark.parametrize("batch", [(0,), (2,), (5,)])
def test_nothing_to_attend_from_gives_zeros(what, batch):
    case = Case(0, 5, batch=batch)
    for name, found in zip(what[2], case.run(what), strict=True):
        assert found.shape == case.arrays[name].shape
        assert (found == 0).all()


@both
def test_a_nan_stays_in_its_row(what):
    case = Case(20, 20, 8, 8, (1,))
    clean = case.run(what)
    case.arrays["q"][0, 7, 3] = np.nan
    found = case.run(what)
    row = np.arange(20) == 7
    assert np.isnan(found[0][0, row]).all()
    np.testing.assert_array_equal(found[0][0, ~row], clean[0][0, ~row])


def test_large_scores_do_not_overflow():
    Case(20, 30, size=1e4).check(FORWARD)


def test_rows_hidden_by_the_least_number_see_all_keys_alike():
    case = Case(9, 9)
    case.arrays["mask"] = np.full((9, 9), np.finfo(np.float32).min, np.float64)
    case.compute()
    case.check(FORWARD)
    np.testing.assert_allclose(
        case.run(FORWARD)[0], case.arrays["v"].mean(-2, keepdims=True) + np.zeros((9, 1)), atol=1e-6
    )
