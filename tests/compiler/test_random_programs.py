"""Random programs compiled: the numbers of eager execution, and what it does to tensors."""

import hypothesis
import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler.trace import trace
from ganglion.errors import AutogradError
from ganglion.nn import functional as F
from ganglion.tensor import wrap
from tests.compiler.judge import Past, difference, disagreements
from tests.compiler.programs import SHAPES, SMALL, drawn, programs
from tests.ops.checker import gapped

UNIT = {"float16": 0.05, "bfloat16": 0.2, "float32": 1e-4, "float64": 1e-10}
CALLS = 3


@pytest.fixture(autouse=True)
def _compiled_anew(monkeypatch):
    """Nothing is read back from disk."""
    monkeypatch.setenv("GANGLION_CACHE_MB", "0")


def assert_native(program):
    """The native step agrees with the interpreter."""
    try:
        traced = program.traced()
    except AutogradError:  # a state was written that a gradient needs: eager refuses it too
        return
    problems = disagreements(traced, program.inputs)
    assert not problems, f"{problems}\n{program}"


@hypothesis.given(programs)
def test_native_steps_agree_with_the_interpreter(program):
    assert_native(program)


@pytest.mark.full
@pytest.mark.parametrize("start", range(0, 3000, 100))
def test_many_native_steps_agree_with_the_interpreter(start):
    for seed in range(start, start + 100):
        assert_native(drawn(seed, 1 + seed % 12, SMALL if seed % 5 else SHAPES))


# --- what callers see -----------------------------------------------------------------------------


def lived(program, wrapped, gaps):
    """What a few calls return and leave in arguments, states and the generator; or the error."""
    gg.manual_seed(program.seed)
    kept = [gg.tensor(a) for a in program.states]
    step, found = wrapped(program.over(kept)), []
    for _ in range(CALLS):
        given = [wrap(gapped(a)) if gaps else gg.tensor(a) for a in program.inputs]
        try:
            found += step(*given)
        except AutogradError as error:
            return type(error)
        found += [x.detach().clone() for x in (*given, *kept)]
    return [x.detach().numpy() for x in (*found, gg.get_rng_state())]


def assert_lives(program, gaps):
    eager, compiled = lived(program, lambda f: f, gaps), lived(program, gg.compile, gaps)
    if isinstance(eager, type):
        assert eager is compiled
        return
    for k, (x, y) in enumerate(zip(compiled, eager, strict=True)):
        size = np.max(np.abs(np.nan_to_num(y.astype(np.float64), posinf=0, neginf=0)), initial=1.0)
        problem = difference(x, y, Past(UNIT.get(y.dtype.name, 0), 1, size))
        assert not problem, f"{k}: {problem}\n{program}"


@pytest.mark.usefixtures("interpreted")
@hypothesis.given(programs)
def test_compiled_calls_do_to_tensors_what_eager_ones_do(program):
    """Results that share memory, arguments and states that are written, random numbers."""
    assert_lives(program, gaps=False)


@pytest.mark.usefixtures("interpreted")
@hypothesis.given(programs)
def test_arguments_need_not_be_contiguous(program):
    assert_lives(program, gaps=True)


# --- programs that were wrong once ----------------------------------------------------------------


def assert_agrees(call, *arrays):
    program = trace(call, *map(gg.tensor, arrays))
    problems = disagreements(program, [np.asarray(a) for a in arrays])
    assert not problems, problems


NUMBERS = np.random.default_rng(0)


def test_numbers_that_an_integer_cuts():
    """A quarter is 0 before anything is added to it."""

    def step(x):
        y = x * 1
        y[()] = 0.25
        return y + 7, (y + 7) * 3

    assert_agrees(step, np.array(21))


def test_zeros_around_images_of_one_pixel():
    x, w = NUMBERS.normal(size=(7, 2, 1)), NUMBERS.normal(size=(4, 2, 3))
    assert_agrees(lambda x, w: F.conv1d(x * 2, w, padding=1), x, w)
    assert_agrees(lambda x, w: F.conv1d(x[:, :1].expand(7, 2, 1) * 2, w, padding=1), x, w)


def test_indexes_that_do_not_exist_give_nan():
    """Eager execution raises an error."""
    x, at = gg.arange(10.0).reshape(5, 2), gg.tensor([0, 7, -9])
    calls = [
        lambda x, at: x[at],
        lambda x, at: gg.index_select(x, 0, at),
        lambda x, at: gg.gather(x, 0, at.reshape(3, 1).expand(3, 2)),
        lambda x, at: gg.take_along_dim(x, at.reshape(3, 1), 0),
        lambda x, at: F.embedding(at, x),
    ]
    for call in calls:
        assert gg.compile(call)(x, at).isnan().tolist() == [[False] * 2, [True] * 2, [True] * 2]


COPIES = {
    "contiguous": lambda x: x.t().contiguous(),
    "reshape": lambda x: x.t().reshape(-1),
    "flatten": lambda x: x.t()[1:].flatten(),
    "reshape of a part": lambda x: x[:, 1:].reshape(-1),
    "reshape of repeats": lambda x: x.expand(3, 2, 3).reshape(6, 3),
}
VIEWS = {
    "contiguous": lambda x: x.contiguous(),
    "reshape": lambda x: x.t().t().reshape(-1),
    "rows": lambda x: x[1:].reshape(-1),
    "view": lambda x: x.t().unsqueeze(0).view(3, 2),
}


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("make", [*COPIES.values(), *VIEWS.values()], ids=[*COPIES, *VIEWS])
def test_writes_reach_the_memory_that_eager_writes_reach(make):
    def ours(x):
        y = make(x)
        y.mul_(2)
        return y

    def theirs(x):
        y = make(x)
        x.mul_(2)
        return y

    for call in (ours, theirs):
        found = []
        for wrapped in (lambda f: f, gg.compile):
            x = gg.arange(6.0).reshape(2, 3).clone()
            y = wrapped(call)(x)
            x.add_(1)  # seen by results that share its memory
            found.append([x.tolist(), y.tolist()])
        assert found[0] == found[1]


def test_views_that_eager_refuses_are_refused():
    with pytest.raises(RuntimeError, match="reshape"):
        gg.compile(lambda x: x.t().view(-1))(gg.ones(2, 3))
