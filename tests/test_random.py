"""Generators: seeds, states, copies."""

import copy
import pickle

import numpy as np
import pytest

import ganglion as gg
from ganglion.errors import ArgumentError, ArgumentTypeError


def test_a_seed_repeats_all_draws():
    gg.manual_seed(7)
    first = [gg.rand(3).tolist(), gg.randperm(5).tolist()]
    assert gg.manual_seed(7) is gg.default_generator
    assert [gg.rand(3).tolist(), gg.randperm(5).tolist()] == first
    assert gg.initial_seed() == 7
    gg.manual_seed(8)
    assert gg.rand(3).tolist() != first[0]


def test_a_state_brings_back_the_next_draw():
    state = gg.get_rng_state()
    first = gg.rand(3).tolist()
    gg.set_rng_state(state)
    assert gg.rand(3).tolist() == first


def test_a_state_is_a_copy():
    state = gg.get_rng_state()
    before = state.tolist()
    gg.rand(1)
    assert state.tolist() == before


def test_seed_is_new_each_time_and_told():
    first, second = gg.seed(), gg.seed()
    assert first != second
    assert gg.initial_seed() == second


def test_fork_rng_leaves_the_generator_where_it_was():
    gg.manual_seed(3)
    with gg.random.fork_rng():
        inside = gg.rand(2).tolist()
    assert gg.rand(2).tolist() == inside
    with gg.random.fork_rng(enabled=False):
        taken = gg.rand(2).tolist()
    assert gg.rand(2).tolist() != taken


def test_generators_are_independent_of_the_default_one():
    a, b = gg.Generator().manual_seed(1), gg.Generator().manual_seed(1)
    assert gg.rand(3, generator=a).tolist() == gg.rand(3, generator=b).tolist()
    state = gg.get_rng_state().tolist()
    gg.randint(5, (2,), generator=a)
    gg.empty(2).normal_(generator=a)
    assert gg.get_rng_state().tolist() == state


def test_new_generators_have_one_seed():
    assert gg.Generator().initial_seed() == gg.Generator().initial_seed() == 67280421310721


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_go_on_alike(duplicate):
    first = gg.Generator().manual_seed(5)
    gg.rand(1, generator=first)
    second = duplicate(first)
    assert gg.rand(3, generator=first).tolist() == gg.rand(3, generator=second).tolist()


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1])
def test_every_64_bit_seed_is_taken(seed):
    assert gg.Generator().manual_seed(seed).initial_seed() == seed % 2**64


def test_seeds_beyond_64_bits_are_refused():
    for seed in (2**64, -(2**63) - 1):
        with pytest.raises(ArgumentError, match=r"2\*\*64"):
            gg.manual_seed(seed)


def test_a_state_must_be_one():
    for state in (gg.zeros(3, dtype=gg.int64), [1, 2]):
        with pytest.raises(ArgumentTypeError, match="get_state"):
            gg.Generator().set_state(state)


def test_next_offset_takes_one_draws_place():
    generator = gg.Generator().manual_seed(2)
    assert [generator.next_offset(), generator.next_offset()] == [0, 1]
    gg.rand(1, generator=generator)
    assert generator.next_offset() == 3


def test_only_the_cpu_has_generators():
    assert gg.Generator("cpu").device == gg.device("cpu")
    with pytest.raises(ArgumentError, match="cuda"):
        gg.Generator(device="cuda")


def test_the_state_is_an_ordinary_tensor():
    state = gg.default_generator.state
    assert state.dtype is gg.int64
    assert np.shares_memory(state.numpy(), gg.default_generator.state.numpy())
