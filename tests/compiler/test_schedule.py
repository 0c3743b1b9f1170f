"""Phases and places: no kernel reads what another still writes, no two live buffers overlap."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import packed
from ganglion.compiler.plan import plan
from ganglion.compiler.schedule import ALIGN, Buffer, Launch, set_phases, set_places
from ganglion.compiler.simplify import expand
from ganglion.compiler.trace import trace
from tests.compiler.workloads import Training


def buffers(*sizes):
    """Temporaries of these many elements."""
    return [Buffer("arena", k, packed(dt.float32, (n,)), f"t{k}") for k, n in enumerate(sizes)]


def launch(reads, writes):
    """A launch of no kernel in particular."""
    return Launch(None, (*reads, *writes), tuple(reads), tuple(writes))


def clashes(launches):
    """Pairs within a phase of which one writes what the other reads or writes."""
    for a, b in combinations(launches, 2):
        if a.phase == b.phase:
            yield from set(a.writes) & {*b.reads, *b.writes} | set(b.writes) & set(a.reads)


def overlaps(launches):
    """Temporaries that share memory while both are alive."""
    found = {b for x in launches for b in x.buffers if b.kind == "arena"}
    for a, b in combinations(found, 2):
        together = a.first <= b.last and b.first <= a.last
        if together and a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes:
            yield a, b


def test_independent_kernels_share_a_phase():
    a, b, c, d = buffers(1, 1, 1, 1)
    launches = [launch([a], [b]), launch([a], [c]), launch([b, c], [d])]
    assert set_phases(launches) == 2
    assert [x.phase for x in launches] == [0, 0, 1]


def test_a_buffer_is_overwritten_after_its_readers():
    a, b = buffers(1, 1)
    launches = [launch([a], [b]), launch([], [a])]
    assert set_phases(launches) == 2


def test_a_dead_buffers_place_is_taken_again():
    a, b, c, d = buffers(100, 100, 100, 100)
    launches = [launch([], [a]), launch([a], [b]), launch([b], [c]), launch([c], [d])]
    set_phases(launches)
    assert set_places(launches) == 2 * 448
    assert a.offset == c.offset != b.offset == d.offset


@st.composite
def programs(draw):
    """Kernels on random temporaries of random sizes."""
    found = buffers(*draw(st.lists(st.integers(1, 300), min_size=1, max_size=12)))
    some = st.lists(st.sampled_from(found), max_size=3, unique=True)
    rows = draw(st.lists(st.tuples(some, some), min_size=1, max_size=20))
    return [launch(reads, writes) for reads, writes in rows]


@given(programs())
def test_kernels_of_a_phase_do_not_meet(launches):
    phases = set_phases(launches)
    assert [x.phase for x in launches] == sorted(x.phase for x in launches)
    assert launches[-1].phase == phases - 1
    assert not list(clashes(launches))


@given(programs())
@settings(deadline=None)
def test_live_buffers_do_not_overlap(launches):
    set_phases(launches)
    arena = set_places(launches)
    placed = {b for x in launches for b in x.buffers}
    assert all(b.offset % ALIGN == 0 and 0 <= b.offset <= arena - b.nbytes for b in placed)
    assert not list(overlaps(launches))


@pytest.mark.parametrize(
    "name", ["mlp64", "cnn-small", "lstm-small", "gpt-small", "resnet20-small"]
)
def test_schedules_of_whole_steps_hold_too(name):
    training = Training(name)
    training.eager_step(*training.batches[0])  # the optimizer's state
    launches = plan(expand(trace(training.eager_step, *training.batches[0]).graph)).launches
    assert not list(clashes(launches))
    assert not list(overlaps(launches))
