"""Memory for compiled steps."""

import ctypes
import gc
import os
import weakref
from pathlib import Path

import pytest

from ganglion.compiler.memory import HUGE, Room, allocate


@pytest.mark.parametrize("nbytes", [0, 1, 4097, HUGE - 1, HUGE, 3 * HUGE + 5])
def test_it_is_zero_aligned_and_of_the_size_asked_for(nbytes):
    block = allocate(nbytes)
    assert block.nbytes == nbytes
    assert block.ctypes.data % (HUGE if nbytes >= HUGE else 4096) == 0
    assert not block.any()
    block[...] = 1


def faults():
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[7])


def test_no_page_is_missing_when_it_is_first_used():
    block = allocate(16 * HUGE)
    before = faults()
    ctypes.memset(block.ctypes.data, 1, block.nbytes)
    assert faults() - before < 8


def test_it_lives_as_long_as_a_view():
    block = allocate(1 << 16)
    owner = weakref.ref(block.base)
    view = block[100:200]
    del block
    gc.collect()
    view[...] = 7
    assert (view == 7).all()
    del view
    gc.collect()
    assert owner() is None


def test_a_forked_child_has_its_own(monkeypatch):
    block = allocate(4096)
    child = os.fork()
    if child == 0:
        block[...] = 1
        os._exit(int(block.sum() != 4096))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not block.any()


def test_a_room_grows_to_the_largest_and_leaves_steps_what_they_have():
    room = Room()
    small = room.take(100, 0)
    small[0][...] = 7
    large = room.take(150, 10)
    assert [block.nbytes for block in large] == [200, 10]
    assert (small[0] == 7).all()
    assert all(a is b for a, b in zip(room.take(180, 5), large, strict=True))
