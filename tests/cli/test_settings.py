"""Settings are checked, and survive config.toml."""

import tomllib

import pytest

from ganglion.cli.settings import MODELS, OPTIMIZERS, SCHEDULES, Settings, sizes
from ganglion.errors import ArgumentError, CheckpointError
from ganglion.models import ACTIVATIONS
from ganglion.train.toml import dump_toml

FULL = Settings(
    data='a "b"\\c.csv',
    target="Größe",
    task="regression",
    hidden=(3, 4),
    activation="tanh",
    dropout=0.25,
    epochs=7,
    lr=1e-5,
    seed=-3,
)


@pytest.mark.parametrize("settings", [Settings(data="iris"), FULL, Settings("x", hidden=())])
def test_settings_survive_config_toml(settings):
    config = tomllib.loads(dump_toml(settings.to_config()))
    assert Settings.from_config(config) == settings


def test_options_that_were_not_given_are_left_out():
    assert not {"target", "task"} & Settings(data="iris").to_config().keys()


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("model", MODELS),
        ("activation", ACTIVATIONS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
    ],
)
def test_every_known_name_is_accepted_and_no_other(name, known):
    for value in known:
        assert getattr(Settings("iris", **{name: value}), name) == value
    with pytest.raises(ArgumentError, match=f"--{name} must be one of .*got 'xyz'"):
        Settings("iris", **{name: "xyz"})


@pytest.mark.parametrize(
    ("text", "expected"), [("128", (128,)), ("256,64", (256, 64)), (" 8, 9 ", (8, 9)), ("", ())]
)
def test_sizes_are_read(text, expected):
    assert sizes(text) == expected


@pytest.mark.parametrize("text", ["a", "1;2", "1,,2", "1.5", "[3]"])
def test_other_texts_are_no_sizes(text):
    with pytest.raises(ArgumentError, match="--hidden must be sizes such as 128"):
        sizes(text)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "it has no key data"),
        ({"trainer": {}, "data": "iris"}, "unknown keys trainer"),
        ({"data": "iris", "lr": -1.0}, "changed and is wrong now: --lr"),
        ({"data": "iris", "epochs": "ten"}, "changed and is wrong now"),
        ({"data": "iris", "hidden": 3}, "changed and is wrong now"),
    ],
)
def test_a_config_of_something_else_is_refused(config, message):
    with pytest.raises(CheckpointError, match=message):
        Settings.from_config(config)
