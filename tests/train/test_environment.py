"""What is recorded about machine and libraries."""

import json

import numpy as np

import ganglion as gg
from ganglion.train.environment import environment, surroundings


def test_the_environment_is_the_same_every_time_and_plain():
    found = environment()
    assert found == environment() == json.loads(json.dumps(found))
    assert found["numpy"] == np.__version__
    assert found["threads"] == gg.get_num_threads()
    assert found["blas"]


def test_the_thread_count_follows_the_setting():
    before = gg.get_num_threads()
    try:
        gg.set_num_threads(before + 1)
        assert environment()["threads"] == before + 1
    finally:
        gg.set_num_threads(before)


def test_the_surroundings_are_plain_too():
    assert {"python", "platform", "command"} == json.loads(json.dumps(surroundings())).keys()
