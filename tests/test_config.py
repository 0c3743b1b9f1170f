import os
import sys
from pathlib import Path

import pytest

from ganglion import config
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
        ("GANGLION_CACHE_MB", "-1"),
        ("GANGLION_TARGET", "pentium"),
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


def write_quotas(mount, quotas):
    for path, text in quotas.items():
        (mount / path).parent.mkdir(parents=True, exist_ok=True)
        (mount / path).write_text(text)


@pytest.mark.parametrize(
    ("groups", "quotas", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/\n", {"cpu.max": "max 100000\n"}, []),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "400000 100000"}, [4.0]),
        ("0::/not/seen/from/inside\n", {"cpu.max": "50000 100000"}, [0.5]),
        (
            "3:cpu,cpuacct:/a\n0::/\n",
            {
                "cpu,cpuacct/a/cpu.cfs_quota_us": "200000",
                "cpu,cpuacct/a/cpu.cfs_period_us": "100000",
            },
            [2.0],
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("9:memory:/a\n", {"memory/a/cpu.max": "100000 100000"}, []),
        ("0::/\n", {"cpu.max": "garbage"}, []),
    ],
)
def test_quotas_of_the_control_groups_are_found(tmp_path, groups, quotas, expected):
    (tmp_path / "groups").write_text(groups)
    write_quotas(tmp_path / "mount", quotas)
    found = config._cpu_quotas(tmp_path / "groups", tmp_path / "mount")
    assert list(found) == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert list(config._cpu_quotas(tmp_path / "missing", tmp_path)) == []


def test_whole_cores_of_the_smallest_quota_count_and_at_least_one(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for quotas, cores in (([], 8), ([3.9, 6.0], 3), ([0.5], 1), ([16.0], 8)):
        monkeypatch.setattr(config, "_cpu_quotas", lambda quotas=quotas: quotas)
        assert config.usable_cores() == cores
