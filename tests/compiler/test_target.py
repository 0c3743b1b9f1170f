"""The target table, and what is found out about the processor here."""

import platform

import pytest

from ganglion.compiler.target import (
    TARGETS,
    Caches,
    host,
    processor_features,
    read_caches,
    runnable,
)
from ganglion.errors import ArgumentError


def test_the_best_target_is_taken_unless_another_is_named(monkeypatch):
    monkeypatch.delenv("GANGLION_TARGET", raising=False)
    assert host() is runnable()[0]
    last = runnable()[-1]
    monkeypatch.setenv("GANGLION_TARGET", last.name)
    assert host() is last


def test_a_target_of_another_processor_is_refused(monkeypatch):
    other = "neon" if platform.machine() == "x86_64" else "sse2"
    monkeypatch.setenv("GANGLION_TARGET", other)
    best = runnable()[0].name
    with pytest.raises(ArgumentError, match=f"GANGLION_TARGET='{other}'.*choose from: {best}"):
        host()


def test_an_unknown_target_is_refused(monkeypatch):
    monkeypatch.setenv("GANGLION_TARGET", "avx1024")
    with pytest.raises(ArgumentError, match="avx512, avx2, sse2 or neon"):
        host()


def test_better_targets_need_more():
    avx512, avx2, sse2 = (TARGETS[name] for name in ("avx512", "avx2", "sse2"))
    assert avx512.needs > avx2.needs > sse2.needs == frozenset()


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_tile_fits_the_registers(target):
    """Its sums and one broadcast; a row of the right side may be read from memory."""
    assert target.sums * 16 // target.lanes < target.registers


def test_features_are_those_of_the_first_processor(tmp_path):
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert processor_features(info) == {"fpu", "avx2", "fma"}
    info.write_text("processor\t: 0\nFeatures\t: fp asimd\n")
    assert processor_features(info) == {"fp", "asimd"}


def test_an_unknown_system_has_the_features_every_processor_has(tmp_path):
    assert processor_features(tmp_path / "missing") == frozenset()


def write_cache(folder, index, kind, level, size):
    entry = folder / f"index{index}"
    entry.mkdir()
    for name, text in (("type", kind), ("level", level), ("size", size)):
        (entry / name).write_text(text + "\n")


def test_caches_are_read_and_missing_ones_assumed(tmp_path):
    write_cache(tmp_path, 0, "Data", "1", "48K")
    write_cache(tmp_path, 1, "Instruction", "1", "64K")
    write_cache(tmp_path, 2, "Unified", "2", "1024K")
    write_cache(tmp_path, 3, "Unified", "3", "unknown")
    assert read_caches(tmp_path) == Caches(48 << 10, 1024 << 10, Caches().l3)
    assert read_caches(tmp_path / "missing") == Caches()
