"""The set of events is closed, and a misspelt one is noticed at once."""

import pytest

from ganglion.errors import ArgumentError
from ganglion.train import Callback
from ganglion.train.events import EVENTS


def test_the_events():
    assert EVENTS == (
        "on_fit_start", "on_epoch_start", "on_step_end", "on_epoch_end", "on_fit_end",
    )  # fmt: skip


def test_a_misspelt_event_is_an_error_with_a_hint():
    with pytest.raises(ArgumentError, match=r"Typo\.on_epoch_ends.*Did you mean 'on_epoch_end'"):
        type("Typo", (Callback,), {"on_epoch_ends": lambda self, trainer: None})


def test_other_methods_are_free():
    made = type("Mine", (Callback,), {"plot": lambda self: 1, "on_fit_end": lambda *a: None})
    assert made().plot() == 1
    assert made().state_dict() == {}
