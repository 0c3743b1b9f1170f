"""The eager runner: kernels on arrays, quiet, with errors in terms of the call."""

import signal
import threading
import warnings

import numpy as np
import pytest

import ganglion as gg
from ganglion.dispatch import mode
from ganglion.eager import quietly, result_type
from ganglion.errors import ArgumentTypeError, ShapeError


def test_kernels_are_quiet_and_numpy_is_not():
    x = gg.zeros(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (x / x).isnan().all()
        assert (x.double() / x.double()).isnan().all()
        assert (x.half() / x.half()).isnan().all()
    with pytest.warns(RuntimeWarning, match="invalid value"):
        np.zeros(3) / np.zeros(3)


def test_kernels_are_quiet_in_every_thread():
    seen = []

    def work():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            seen.append((gg.zeros(1) / 0).isnan().item())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]


def test_a_kernel_may_be_interrupted_by_another():
    """A signal handler runs wherever Python code does, also inside a kernel."""

    def inner():
        assert (gg.ones(2) / 0).tolist() == [np.inf, np.inf]
        assert (gg.ones(2).long() + 1).tolist() == [2, 2]
        return "done"

    assert quietly(inner) == "done"
    assert mode.run(inner) == "done"


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="needs Unix signals")
def test_a_signal_handler_may_compute():
    results = []
    before = signal.signal(signal.SIGALRM, lambda *_: results.append((gg.ones(2) + 1).tolist()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        while len(results) < 20:
            gg.softmax(gg.ones(4, 4), 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert results[:20] == [[2.0, 2.0]] * 20


def test_errors_speak_of_the_call():
    with pytest.raises(ShapeError, match=r"\(2, 3\) and \(4,\)"):
        gg.ones(2, 3) + gg.ones(4)
    with pytest.raises(ArgumentTypeError, match="expected a tensor or a number, got str"):
        gg.ones(2) + "one"


def test_an_error_inside_a_kernel_keeps_its_cause():
    with pytest.raises(ShapeError) as failure:
        gg.ones(2, 3) + gg.ones(4)
    assert isinstance(failure.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("operands", "expected"),
    [
        ((gg.ones(2), 1), gg.float32),
        ((gg.ones(2), gg.ones(2).double()), gg.float64),
        ((gg.ones(2), gg.ones(()).double()), gg.float32),
        ((gg.ones(2).int(), gg.ones(())), gg.float32),
        ((gg.ones(2).int(), 1.5), gg.float32),
        ((gg.ones(2).byte(), gg.ones(2).char()), gg.int16),
        ((gg.ones(2).half(), gg.ones(2).bfloat16()), gg.float32),
        ((gg.ones(2).half(), 2.5), gg.float16),
        ((gg.ones(2).bool(), True), gg.bool),
        ((gg.ones(2).bool(), 1), gg.int64),
        ((1, 2.5), gg.float32),
    ],
)
def test_operands_meet_as_in_pytorch(operands, expected):
    assert result_type(*operands) is expected
