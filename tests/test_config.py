import os
import sys
from pathlib import Path

import pytest

from ganglion.config import Flags, flags, optional
from ganglion.errors import ArgumentError, MissingExtraError


def test_flags_are_read_when_asked_for(monkeypatch):
    monkeypatch.setenv("GANGLION_NUM_THREADS", "3")
    assert flags.num_threads == 3
    monkeypatch.setenv("GANGLION_NUM_THREADS", "5")
    assert flags.num_threads == 5


def test_defaults_hold_when_unset_or_empty(monkeypatch):
    for flag in Flags.table():
        monkeypatch.setenv(flag.variable, "")
    assert flags.data is None
    assert flags.eager_kernels is True
    assert flags.debug == 0
    assert 1 <= flags.num_threads <= (os.cpu_count() or 1)


def test_the_cache_follows_xdg_and_ignores_relative_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("GANGLION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert flags.cache == tmp_path / "ganglion"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert flags.cache == Path.home() / ".cache" / "ganglion"


def test_a_tilde_in_a_folder_is_the_home(monkeypatch):
    monkeypatch.setenv("GANGLION_DATA", "~/data")
    assert flags.data == Path.home() / "data"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("GANGLION_NUM_THREADS", "0"),
        ("GANGLION_NUM_THREADS", "two"),
        ("GANGLION_DEBUG", "5"),
        ("GANGLION_EAGER_KERNELS", "maybe"),
    ],
)
def test_a_bad_value_names_variable_and_value(monkeypatch, variable, text):
    monkeypatch.setenv(variable, text)
    name = next(flag.name for flag in Flags.table() if flag.variable == variable)
    with pytest.raises(ArgumentError, match=f"{variable}='{text}' is not"):
        getattr(flags, name)


@pytest.mark.parametrize(("text", "value"), [("0", False), ("False", False), ("1", True)])
def test_switches_read_numbers_and_words(monkeypatch, text, value):
    monkeypatch.setenv("GANGLION_EAGER_KERNELS", text)
    assert flags.eager_kernels is value


def test_every_flag_has_a_variable_and_a_meaning():
    for flag in Flags.table():
        assert flag.variable == f"GANGLION_{flag.name.upper()}"
        assert flag.doc.endswith(".")


def test_optional_returns_the_module():
    assert optional("json.decoder") is sys.modules["json.decoder"]


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ganglion\[data\]'"):
        optional("pandas", "data")
    with pytest.raises(ImportError, match=r"pip install ganglion$"):
        optional("pandas")


def test_a_missing_parent_package_counts_as_missing():
    with pytest.raises(MissingExtraError, match="'no_such_package'"):
        optional("no_such_package.part", "data")


def test_an_installed_package_that_fails_raises_its_own_error(monkeypatch, tmp_path):
    (tmp_path / "broken_package.py").write_text("import another_missing_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="another_missing_package") as caught:
        optional("broken_package", "data")
    assert not isinstance(caught.value, MissingExtraError)
