import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import packed
from ganglion.compiler.kernels import recurrent, recurrent_grad
from ganglion.compiler.kernels.tile import AVX2, AVX512
from ganglion.ops.gru import GRU, GRU_GRAD
from ganglion.ops.lstm import LSTM, LSTM_GRAD
from ganglion.ops.recurrent import RNN, RNN_GRAD
from tests.compiler.kernels.layouts import layouts
from tests.compiler.kernels.plans import CompiledPlan

# by kind: gates, the record and its gradient, options; then inputs and results of both
LSTM_NAMES = (
    "x h c w_ih w_hh b_ih b_hh w_hr", "y cells gates",
    "dy dcells dgates c cells gates w_hh w_hr", "pre dc",
)  # fmt: skip
GRU_NAMES = ("x h w_ih w_hh b_ih b_hh", "y gates", "dy dgates h y gates w_hh", "pre_x pre_h dh")
RNN_NAMES = ("x h w_ih w_hh b_ih b_hh", "y", "dy y w_hh", "pre")
KINDS = {
    "lstm": (4, (LSTM, LSTM_GRAD), {}, LSTM_NAMES),
    "gru": (3, (GRU, GRU_GRAD), {}, GRU_NAMES),
    "rnn-tanh": (1, (RNN, RNN_GRAD), {"nonlinearity": "tanh"}, RNN_NAMES),
    "rnn-relu": (1, (RNN, RNN_GRAD), {"nonlinearity": "relu"}, RNN_NAMES),
}


class Case:
    """A layer with random numbers of ``dtype``, and what the eager kernels make of it."""

    def __init__(
        self, kind="lstm", steps=4, batch=5, inputs=3, hidden=6, out=None, dtype=dt.float32,
        reverse=False, biases=(True, True), given=(True, True, True),
    ):  # fmt: skip
        rng = np.random.default_rng(hidden * 100 + batch)
        gates, self.records, options, names = KINDS[kind]
        self.names, self.dtype = [n.split() for n in names], dtype
        self.options = {**options, "reverse": reverse}
        projected = out is not None and kind == "lstm"
        out = out if projected else hidden
        shapes = {
            "x": (steps, batch, inputs), "h": (batch, out), "c": (batch, hidden),
            "w_ih": (gates * hidden, inputs), "w_hh": (gates * hidden, out),
            "b_ih": (gates * hidden,), "b_hh": (gates * hidden,), "w_hr": (out, hidden),
            "dy": (steps, batch, out), "dcells": (steps, batch, hidden),
            "dgates": (steps, batch, 4 * hidden),
        }  # fmt: skip
        absent = {"b_ih": not biases[0], "b_hh": not biases[1], "w_hr": not projected}
        if kind in ("lstm", "gru"):
            absent |= {n: not g for n, g in zip(("dy", "dcells", "dgates"), given, strict=True)}
        scale = 1 / math.sqrt(max(hidden, inputs))
        self.arrays = {
            name: None if absent.get(name) else self.rounded(rng.standard_normal(shape) * scale)
            for name, shape in shapes.items()
        }
        self.compute()

    def rounded(self, a):
        return a.astype(self.dtype.numpy).astype(np.float64)

    def compute(self):
        for record, inputs, results in zip(
            self.records, self.names[::2], self.names[1::2], strict=True
        ):
            given = [None if (a := self.arrays[n]) is None else a.copy() for n in inputs]
            found = record.kernel(*given, **self.options)
            found = [found] if len(results) == 1 else found
            self.arrays |= {n: self.rounded(a) for n, a in zip(results, found, strict=True)}

    def run(self, module, threads=1, target=AVX512, choose=packed):
        """The results of the native code, by name."""
        backward = module is recurrent_grad
        inputs, results = self.names[2:] if backward else self.names[:2]
        function = getattr(module, self.records[backward].name)
        chosen = {
            name: None if self.arrays[name] is None else choose(self.dtype, self.arrays[name].shape)
            for name in (*inputs, *results)
        }
        plan = function(*chosen.values(), target=target, **self.options)
        pairs = {
            name: (layout, self.arrays[name] if name in inputs else None)
            for name, layout in chosen.items()
            if layout is not None
        }
        views = CompiledPlan(plan)(list(pairs.values()), threads=threads)
        return {n: v.copy() for n, v in zip(pairs, views, strict=False) if n in results}

    def check(self, module, **options):
        for name, found in self.run(module, **options).items():
            wanted = self.arrays[name]
            error = 100 * np.finfo(self.dtype.numpy).eps * max(1, abs(wanted).max())
            np.testing.assert_allclose(found, wanted, rtol=0, atol=error, err_msg=name)


SIZES = st.one_of(st.integers(1, 9), st.sampled_from((15, 16, 17, 31, 32, 33, 40, 50)))
FLAGS = st.tuples(st.booleans(), st.booleans(), st.booleans())
cases = st.builds(
    Case, st.sampled_from(sorted(KINDS)), st.integers(1, 4), SIZES, SIZES, SIZES,
    st.one_of(st.none(), SIZES), st.sampled_from((dt.float32, dt.float64)), st.booleans(),
    st.tuples(st.booleans(), st.booleans()), FLAGS,
)  # fmt: skip
both = pytest.mark.parametrize("module", [recurrent, recurrent_grad], ids=("forward", "backward"))


@both
@given(case=cases, threads=st.sampled_from((1, 3)))
def test_a_native_layer_equals_the_eager_one(module, case, threads):
    case.check(module, threads=threads)


@both
@given(data=st.data(), case=cases)
def test_operands_may_have_any_strides(module, data, case):
    case.check(module, choose=lambda dtype, shape: data.draw(layouts(dtype, shape)))


@both
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_bits_do_not_depend_on_threads_and_tiles(module, kind):
    case = Case(kind, steps=6, batch=29, inputs=7, hidden=35, out=20)
    first = case.run(module)
    for options in ({"threads": 2}, {"threads": 3}, {"threads": 7}, {"target": AVX2}):
        for name, found in case.run(module, **options).items():
            np.testing.assert_array_equal(found, first[name], err_msg=f"{name} {options}")


@both
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_nan_stays_in_its_row(module, kind):
    case = Case(kind, batch=6)
    case.arrays["x"][1, 2, 0] = np.nan
    case.compute()
    for name, found in case.run(module).items():
        np.testing.assert_array_equal(np.isnan(found), np.isnan(case.arrays[name]), err_msg=name)


def test_saturated_gates_do_not_overflow():
    case = Case("lstm", steps=3, hidden=8)
    case.arrays["w_ih"] *= 1e5
    case.compute()
    case.check(recurrent)
