"""Our TOML is read by Python's tomllib, exactly."""

import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.errors import ArgumentTypeError
from ganglion.train.toml import dump_toml

texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), texts
)
values = st.recursive(
    plain,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)


def spelled(value):
    """Types and all digits, whatever the order of keys: tables stand after plain values."""
    if isinstance(value, dict):
        return sorted((key, spelled(inner)) for key, inner in value.items())
    return list(map(spelled, value)) if isinstance(value, list) else repr(value)


@given(st.dictionaries(texts, values, max_size=5))
def test_any_nested_values_come_back(config):
    assert spelled(tomllib.loads(dump_toml(config))) == spelled(config)


def test_it_reads_like_a_file_written_by_hand():
    config = {"data": "digits", "lr": 1e-3, "none": None, "model": {"hidden": [128], "bias": True}}
    text = 'data = "digits"\nlr = 0.001\n\n[model]\nhidden = [128]\nbias = true\n'
    assert dump_toml(config) == text


def test_special_floats_and_tuples():
    found = tomllib.loads(dump_toml({"a": math.inf, "b": math.nan, "c": (1, 2)}))
    assert (found["a"], math.isnan(found["b"]), found["c"]) == (math.inf, True, [1, 2])


@pytest.mark.parametrize("value", [{1}, 1j, object(), [None], b"bytes"])
def test_other_values_are_refused_by_name(value):
    with pytest.raises(ArgumentTypeError, match=r"model\.odd is a"):
        dump_toml({"model": {"odd": value}})
