"""The switches of grad mode: blocks, decorators, generators, threads."""

import threading

import pytest

import ganglion as gg
from ganglion.errors import AutogradError


def set_to_false(function=None):
    switch = gg.set_grad_enabled(False)
    return switch if function is None else switch(function)


SWITCHES = [
    (gg.no_grad, False),
    (gg.enable_grad, True),
    (gg.inference_mode, False),
    (set_to_false, False),
]
NAMES = ["no_grad", "enable_grad", "inference_mode", "set_grad_enabled"]


@pytest.fixture(autouse=True)
def _restored():
    yield
    assert gg.is_grad_enabled()
    assert not gg.is_inference_mode_enabled()


@pytest.mark.parametrize(("switch", "inside"), SWITCHES, ids=NAMES)
def test_a_block_sets_the_mode_and_sets_it_back(switch, inside):
    with switch():
        assert gg.is_grad_enabled() is inside
    assert gg.is_grad_enabled()
    with gg.no_grad():
        with switch():
            assert gg.is_grad_enabled() is inside
        assert not gg.is_grad_enabled()


@pytest.mark.parametrize(("switch", "inside"), SWITCHES, ids=NAMES)
def test_a_block_is_left_by_errors_too(switch, inside):
    with pytest.raises(KeyError), switch():
        raise KeyError


@pytest.mark.parametrize(("switch", "inside"), SWITCHES, ids=NAMES)
@pytest.mark.parametrize("parentheses", [True, False])
def test_functions_run_in_the_mode(switch, inside, parentheses):
    def mode(value, *, extra=0):
        """Its docstring."""
        return gg.is_grad_enabled(), value + extra

    decorated = switch()(mode) if parentheses else switch(mode)
    assert gg.is_grad_enabled()
    with gg.enable_grad():
        assert decorated(1, extra=2) == (inside, 3)
        assert decorated(1) == (inside, 1)
    assert decorated.__name__ == "mode"
    assert decorated.__doc__ == "Its docstring."


@pytest.mark.parametrize(("switch", "inside"), SWITCHES, ids=NAMES)
def test_recursive_functions_run_in_the_mode(switch, inside):
    @switch
    def count(n):
        assert gg.is_grad_enabled() is inside
        return n if n == 0 else 1 + count(n - 1)

    assert count(5) == 5


@pytest.mark.parametrize(("switch", "inside"), SWITCHES, ids=NAMES)
def test_one_switch_may_be_entered_again(switch, inside):
    same = switch()
    with same:
        with gg.enable_grad(), same:
            assert gg.is_grad_enabled() is inside
        assert gg.is_grad_enabled() is inside
    assert gg.is_grad_enabled()
    with same:
        assert gg.is_grad_enabled() is inside


def test_generators_run_in_the_mode_and_their_callers_in_their_own():
    @gg.no_grad()
    def numbers():
        """Its docstring."""
        try:
            sent = yield gg.is_grad_enabled()
            assert not gg.is_grad_enabled()
            sent = yield sent * 2
        except KeyError:
            yield gg.is_grad_enabled(), "caught"
        else:
            yield sent
        return "done"

    assert numbers.__doc__ == "Its docstring."
    running = numbers()
    assert next(running) is False
    assert gg.is_grad_enabled()
    assert running.send(21) == 42
    assert gg.is_grad_enabled()
    assert running.throw(KeyError) == (False, "caught")
    with pytest.raises(StopIteration) as end:
        next(running)
    assert end.value.value == "done"


def test_a_generator_is_closed_in_the_mode():
    seen = []

    @gg.no_grad
    def numbers():
        try:
            yield 1
            yield 2
        finally:
            seen.append(gg.is_grad_enabled())

    running = numbers()
    next(running)
    running.close()
    assert seen == [False]
    assert list(numbers()) == [1, 2]


def test_a_generator_may_change_the_mode_between_its_own_steps():
    @gg.no_grad
    def numbers():
        with gg.enable_grad():
            yield gg.is_grad_enabled()
        yield gg.is_grad_enabled()

    seen = [(inside, gg.is_grad_enabled()) for inside in numbers()]
    assert seen == [(True, True), (False, True)]


def test_set_grad_enabled_acts_when_called():
    gg.set_grad_enabled(False)
    assert not gg.is_grad_enabled()
    gg.set_grad_enabled(True)
    assert gg.is_grad_enabled()
    with gg.set_grad_enabled(False), gg.set_grad_enabled(True):
        assert gg.is_grad_enabled()


def test_set_grad_enabled_as_decorator_acts_only_inside():
    @gg.set_grad_enabled(False)
    def mode():
        return gg.is_grad_enabled()

    assert gg.is_grad_enabled()
    assert mode() is False


def test_modes_are_each_threads_own():
    seen = {}
    entered, leave = threading.Event(), threading.Event()

    def other():
        seen["fresh"] = gg.is_grad_enabled()
        with gg.inference_mode():
            entered.set()
            leave.wait(5)

    with gg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        entered.wait(5)
        seen["grad"], seen["inference"] = gg.is_grad_enabled(), gg.is_inference_mode_enabled()
        leave.set()
        thread.join()
    assert seen == {"fresh": True, "grad": False, "inference": False}


def test_nothing_is_recorded_inside():
    w = gg.ones(3, requires_grad=True)
    with gg.no_grad():
        y = w * 2
    assert not y.requires_grad
    assert y.grad_fn is None
    assert (w * 2).requires_grad


# --- inference mode -----------------------------------------------------------------------------


def made_in_inference_mode():
    with gg.inference_mode():
        return gg.ones(3) * 2


def test_inference_mode_can_be_off():
    with gg.inference_mode(False):
        assert gg.is_grad_enabled()
        assert not gg.is_inference_mode_enabled()
    with gg.inference_mode(), gg.inference_mode(False):
        assert gg.is_grad_enabled()
        assert not (gg.ones(3) * 2).is_inference()


def test_what_is_made_inside_is_marked():
    x = made_in_inference_mode()
    assert x.is_inference()
    assert x[:2].is_inference()
    assert not (x * 2).is_inference()
    assert not x.clone().is_inference()
    with gg.inference_mode():
        assert gg.zeros(2).is_inference()
        with gg.enable_grad():
            assert not (gg.ones(3, requires_grad=True) * 2).requires_grad


def test_it_cannot_be_saved_for_backward():
    w, x = gg.ones(3, requires_grad=True), made_in_inference_mode()
    with pytest.raises(AutogradError, match=r"cannot be saved for backward.*clone"):
        _ = w * x
    (w * x.clone() + x).sum().backward()
    assert w.grad.tolist() == [2.0, 2.0, 2.0]


def test_it_cannot_be_written_to_outside():
    x = made_in_inference_mode()
    for write in (lambda: x.add_(1), x[:2].zero_, lambda: x.__setitem__(0, 5.0)):
        with pytest.raises(AutogradError, match="outside InferenceMode is not allowed"):
            write()
    assert x.tolist() == [2.0, 2.0, 2.0]
    with gg.inference_mode():
        x.add_(1)
        x[0] = 5.0
    assert x.tolist() == [5.0, 3.0, 3.0]


def test_it_cannot_require_grad_outside_and_counts_no_versions():
    x = made_in_inference_mode()
    with pytest.raises(AutogradError, match="requires_grad=True on inference tensor"):
        x.requires_grad_()
    with pytest.raises(AutogradError, match="do not track version"):
        _ = x._version


def test_other_tensors_may_be_written_to_inside():
    w = gg.ones(3, requires_grad=True)
    x = w * 1
    y = x * x
    with gg.inference_mode():
        x.add_(1)
    assert x._version == 1
    with pytest.raises(AutogradError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_view_from_inside_cannot_be_written_to_outside():
    x = gg.ones(3, requires_grad=True) * 1
    with gg.inference_mode():
        v = x[:2]
    assert not v.is_inference()
    with pytest.raises(AutogradError, match="view was created in inference mode"):
        v.add_(1)
