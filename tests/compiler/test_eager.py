"""Heavy calls of eager execution: which run on compiled kernels, and that nobody can tell."""

import contextlib
import os
import threading
import warnings
from collections import Counter

import numpy as np
import pytest

import ganglion as gg
from ganglion import heavy
from ganglion.compiler import eager
from ganglion.dispatch import mode
from ganglion.errors import ShapeError
from ganglion.nn import functional as F
from ganglion.ops.conv import CONV
from ganglion.ops.record import OPS
from ganglion.shapes import Meta
from tests.compiler import judge
from tests.compiler.convolved import W, X, convolved
from tests.compiler.test_ops_compiled import FAMILIES
from tests.compiler.test_without_llvmlite import HIDDEN
from tests.compiler.workloads import Training, digest, python
from tests.ops import checker

FAMILIES_OF_HEAVY_OPS = (
    "attention", "batchnorm", "conv", "loss", "norm", "pool", "recurrent",
)  # fmt: skip
ROUNDING = {"float32": 4e-6, "float64": 1e-11}  # of sums, relative to the largest


@pytest.fixture(autouse=True)
def _kernels(monkeypatch):
    """Kernels are allowed; none is left from another test."""
    monkeypatch.setenv("GANGLION_EAGER_KERNELS", "1")
    heavy.forget()
    yield
    heavy.forget()


@pytest.fixture
def made(monkeypatch):
    """The names of the ops that kernels were asked for."""
    names, maker = [], heavy.maker

    def listed(op, metas, params):
        names.append(op.name)
        return maker(op, metas, params)

    monkeypatch.setattr(heavy, "maker", listed)
    return names


@pytest.fixture
def all_heavy(monkeypatch):
    """Small calls count as heavy."""
    monkeypatch.setattr(heavy, "share", 0.0)


@contextlib.contextmanager
def numpy_alone():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANGLION_EAGER_KERNELS", "0")
        yield


def assert_close(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        room = ROUNDING.get(b.dtype.name, 0) * np.abs(b).max(initial=0)
        np.testing.assert_allclose(a, b, rtol=0, atol=room)


# --- the same results -----------------------------------------------------------------------------


class Twice:
    """A maker whose kernels run natively and on NumPy, and note ops whose results differ.

    Of each op it does so for two kinds of calls in each dtype; for others there is no kernel.
    """

    def __init__(self):
        self.counts, self.wrong = Counter(), []

    def __call__(self, op, metas, params):
        kind = op.name, next(m.dtype.name for m in metas if m is not None)
        self.counts[kind] += 1
        if self.counts[kind] > 2:
            return None
        native = eager.Kernel(op, metas, params)
        places = [i for i, meta in enumerate(metas) if meta is not None]

        def both(arrays):
            given = [None] * len(metas)
            for place, array in zip(places, arrays, strict=True):
                given[place] = array
            results = mode.run(op.kernel, *given, **params)
            pairs = [(native(arrays), results)] if op.outputs == 1 else zip(
                native(arrays), results, strict=True
            )  # fmt: skip
            try:
                assert_close(*zip(*pairs, strict=True))
            except AssertionError as error:
                self.wrong.append(f"{kind}: {error}")
            return results

        return both


def test_every_heavy_op_gives_what_numpy_gives(monkeypatch, all_heavy):
    twice = Twice()
    monkeypatch.setattr(heavy, "maker", twice)
    for family in FAMILIES_OF_HEAVY_OPS:
        for sample in FAMILIES[family]:
            for dtype in sorted(set(sample.dtypes) & ROUNDING.keys()):
                tensors = checker.ours(sample.arrays(dtype))
                which = checker.differentiable(sample, [x._data for x in tensors])
                judge.gradients(sample, tensors, which, 2 if sample.smooth and which else 1)
    assert not twice.wrong, "\n".join(twice.wrong)
    assert {name for name, _ in twice.counts} == {n for n, op in OPS.items() if op.heavy}


def test_large_convolutions_and_their_gradients_equal_numpy_ones(made):
    found = convolved()
    assert made == ["conv", "conv_input", "conv_weight"]
    with numpy_alone():
        assert_close(found, convolved())


def test_they_equal_pytorch():
    torch = pytest.importorskip("torch")
    x, w = (torch.tensor(t.numpy(), requires_grad=True) for t in (X, W))
    y = torch.nn.functional.conv2d(x, w, padding=1)
    (y * y).sum().backward()
    assert_close(convolved(), [t.detach().numpy() for t in (y, x.grad, w.grad)])


def test_inputs_may_have_any_strides(made):
    turned = X.permute(0, 1, 3, 2)
    spread = gg.ones(1, 1, 1, 1).expand(32, 16, 20, 20)
    found = [F.conv2d(x, W, padding=1).numpy() for x in (turned, spread)]
    assert made
    with numpy_alone():
        assert_close(found, [F.conv2d(x, W, padding=1).numpy() for x in (turned, spread)])


def test_results_have_memory_of_their_own():
    first = F.conv2d(X, W)
    kept = first.numpy().copy()
    second = F.conv2d(-X, W)
    np.testing.assert_array_equal(first.numpy(), kept)
    np.testing.assert_array_equal(second.numpy(), -kept)


def test_wrong_shapes_are_refused_in_the_same_words():
    with pytest.raises(ShapeError) as found:
        F.conv2d(X, W[:, :8])
    with numpy_alone(), pytest.raises(ShapeError) as wanted:
        F.conv2d(X, W[:, :8])
    assert str(found.value) == str(wanted.value)


# --- which calls ----------------------------------------------------------------------------------


def test_small_calls_run_on_numpy(made):
    F.conv2d(X[:1], W)
    assert made == []


def test_equal_calls_share_one_kernel(made):
    for _ in range(3):
        F.conv2d(X, W)
    F.conv2d(X, W, padding=1)
    assert made == ["conv", "conv"]


def test_the_setting_counts_at_every_call(made):
    with numpy_alone():
        without = F.conv2d(X, W).numpy()
    assert made == []
    found = F.conv2d(X, W).numpy()
    assert made == ["conv"]
    with numpy_alone():
        np.testing.assert_array_equal(F.conv2d(X, W).numpy(), without)
    assert (found != without).any()


def test_the_interpreter_keeps_the_bits_of_eager_execution(made, interpreted):
    compiled = gg.compile(lambda x: F.conv2d(x, W))
    np.testing.assert_array_equal(compiled(X).numpy(), F.conv2d(X, W).numpy())
    assert made == []


def test_traces_take_none(made):
    gg.compile(lambda x: F.conv2d(x, W))(X)
    assert made == []


@pytest.mark.parametrize("dtype", [gg.float16, gg.bfloat16])
def test_half_precision_runs_on_numpy(made, dtype):
    F.conv2d(X.to(dtype), W.to(dtype))
    assert made == []


def test_many_shapes_are_named_once(monkeypatch, all_heavy):
    monkeypatch.setattr(eager, "MANY", 3)
    monkeypatch.setattr(eager._turn, "counts", Counter())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for width in range(2, 8):
            F.softmax(gg.ones(2, width), 1)
    assert [str(w.message).split(" for ")[0] for w in caught] == ["3 kernels have been compiled"]


def test_kernels_that_were_let_go_come_back_from_disk(monkeypatch, made):
    monkeypatch.setattr(heavy, "LIMIT", 1)
    first = F.conv2d(X, W).numpy()
    F.conv2d(X, W, padding=1)
    np.testing.assert_array_equal(F.conv2d(X, W).numpy(), first)
    assert len(made) == 3
    assert len(heavy._known) == 1


# --- the same bits --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn-small", "lstm-small", "gpt-small"])
def test_training_has_the_same_bits_whatever_was_called_before(all_heavy, made, name):
    whole = digest(Training(name, compiled=False).run(4).results())
    assert made
    F.conv2d(X, W)
    assert digest(Training(name, compiled=False).run(4).results()) == whole
    heavy.forget()
    training = Training(name, compiled=False).run(2)
    heavy.forget()
    assert digest(training.run(2).results()) == whole


PRINTED = """
from tests.compiler.convolved import convolved
from tests.compiler.workloads import digest
from ganglion import heavy
print(digest(dict(enumerate(convolved()))), len([k for k in heavy._known.values() if k]))
"""


def test_threads_and_processes_do_not_change_bits():
    here = digest(dict(enumerate(convolved())))
    for threads in "13":
        done = python("-c", PRINTED, GANGLION_EAGER_KERNELS="1", GANGLION_NUM_THREADS=threads)
        assert done.stdout == f"{here} 3\n", done.stderr


def test_without_llvmlite_numpy_serves():
    done = python("-c", HIDDEN + PRINTED, GANGLION_EAGER_KERNELS="1")
    with numpy_alone():
        here = digest(dict(enumerate(convolved())))
    assert (done.stdout, done.stderr) == (f"{here} 0\n", "")


# --- trouble --------------------------------------------------------------------------------------


def test_python_threads_take_turns():
    whole = digest(dict(enumerate(convolved())))
    heavy.forget()
    found = []

    def work():
        for _ in range(5):
            found.append(digest(dict(enumerate(convolved()))))  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [whole] * 20


def test_a_forked_child_goes_on_while_another_thread_has_the_turn():
    whole = digest(dict(enumerate(convolved())))
    here, done = threading.Event(), threading.Event()

    def hold():
        with eager._turn.lock:
            here.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    here.wait()
    child = os.fork()
    if not child:
        os._exit(digest(dict(enumerate(convolved()))) != whole)
    done.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0


def test_a_call_in_the_midst_of_another_runs_on_numpy():
    metas = [Meta(tuple(t.shape), gg.float32) for t in (X, W)]
    params = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    kernel = eager.Kernel(CONV, [*metas, None], params)
    arrays = [X.numpy(), W.numpy()]
    wanted = kernel(arrays)
    step, within = kernel.step, []

    def interrupted(*given):
        within.append(kernel(arrays))
        return step(*given)

    kernel.step = interrupted
    np.testing.assert_array_equal(kernel(arrays), wanted)
    assert within == [None]
    kernel.step = step
    np.testing.assert_array_equal(kernel(arrays), wanted)
