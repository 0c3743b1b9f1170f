"""Compiled code on disk: found again, never trusted when damaged or not ours."""

import os
import subprocess
import sys
import time

import pytest

from ganglion.compiler import cache, llvm
from ganglion.compiler.target import TARGETS, host

TEXTS = [f"define i64 @f{i}(i64 %x) {{\n  %y = add i64 %x, {i}\n  ret i64 %y\n}}\n" for i in "123"]


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compiled(monkeypatch):
    """Every text that was really compiled."""
    seen = []
    real = llvm.compile_all

    def compile_all(texts, target):
        texts = list(texts)
        seen.extend(texts)
        return real(texts, target)

    monkeypatch.setattr(llvm, "compile_all", compile_all)
    return seen


def files(folder):
    return sorted(folder.iterdir())


def test_what_was_compiled_is_read_back(folder, compiled):
    fresh = cache.objects(TEXTS, host())
    assert compiled == TEXTS
    assert cache.objects(TEXTS, host()) == fresh
    assert compiled == TEXTS
    assert len(files(folder)) == 3


def test_only_what_is_missing_is_compiled_and_order_is_kept(folder, compiled):
    first = cache.objects(TEXTS[1:2], host())
    found = cache.objects(TEXTS, host())
    assert compiled == [TEXTS[1], TEXTS[0], TEXTS[2]]
    assert found[1:2] == first
    assert found == [llvm.compile_text(text, host()) for text in TEXTS]


def test_another_target_or_compiler_is_another_file(folder, compiled, monkeypatch):
    for target in (TARGETS["sse2"], TARGETS["avx2"]):
        cache.objects(TEXTS[:1], target)
    assert len(files(folder)) == 2
    monkeypatch.setattr(llvm, "version", lambda: "LLVM 99")
    cache.objects(TEXTS[:1], TARGETS["sse2"])
    monkeypatch.setattr(cache, "ABI", cache.ABI + 1)
    cache.objects(TEXTS[:1], TARGETS["sse2"])
    assert len(files(folder)) == len(compiled) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:-1],
        lambda whole: whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        lambda whole: b"\0" * len(whole),
    ],
    ids=["empty", "cut", "one bit", "zeros"],
)
def test_a_damaged_file_is_compiled_again(folder, compiled, damage):
    fresh = cache.objects(TEXTS[:1], host())
    (path,) = files(folder)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert cache.objects(TEXTS[:1], host()) == fresh
    assert len(compiled) == 2
    assert path.read_bytes() == whole


def test_the_folder_and_its_files_are_the_users_alone(folder):
    cache.objects(TEXTS, host())
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files(folder)} == {0o600}


def test_a_folder_that_others_may_write_to_is_not_used(folder, compiled):
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    for _ in range(2):
        cache.objects(TEXTS[:1], host())
    assert len(compiled) == 2
    assert files(folder) == []


def test_a_file_that_others_may_write_to_is_not_run(folder, compiled):
    cache.objects(TEXTS[:1], host())
    files(folder)[0].chmod(0o666)
    cache.objects(TEXTS[:1], host())
    assert len(compiled) == 2
    assert files(folder)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_another_user_is_not_run(folder, compiled):
    cache.objects(TEXTS[:1], host())
    os.chown(files(folder)[0], 12345, 12345)
    cache.objects(TEXTS[:1], host())
    os.chown(folder, 12345, 12345)
    cache.objects(TEXTS[:1], host())
    assert len(compiled) == 3


def test_a_link_is_not_followed(folder, compiled, tmp_path):
    cache.objects(TEXTS[:1], host())
    (path,) = files(folder)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    cache.objects(TEXTS[:1], host())
    assert len(compiled) == 2
    assert not path.is_symlink()


@pytest.mark.parametrize("obstacle", ["a file", "read-only"])
def test_without_a_folder_it_compiles(folder, compiled, obstacle, monkeypatch):
    if obstacle == "a file":
        folder.parent.write_text("in the way")
    else:
        folder.mkdir(parents=True, mode=0o700)
        monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    assert cache.objects(TEXTS[:1], host()) == [llvm.compile_text(TEXTS[0], host())]
    assert compiled


def test_a_disk_that_fills_up_is_no_error(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.tempfile, "mkstemp", full)
    assert cache.objects(TEXTS[:1], host()) == [llvm.compile_text(TEXTS[0], host())]


def test_nothing_is_kept_when_told_so(folder, monkeypatch):
    monkeypatch.setenv("GANGLION_CACHE_MB", "0")
    cache.objects(TEXTS, host())
    assert not folder.exists()


def age(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_what_was_used_longest_ago_goes_first(folder, monkeypatch):
    monkeypatch.setenv("GANGLION_CACHE_MB", "1")
    cache.objects(TEXTS[:2], host())
    used, unused = (folder / cache._name(text, host()) for text in TEXTS[:2])
    old = folder / "left by a killed process"
    old.write_bytes(b"x" * (1 << 19))
    for path, seconds in ((used, 300), (unused, 200), (old, 100)):
        age(path, seconds)
    cache.objects(TEXTS[:1], host())  # counts as a use
    newest = folder / "large"
    newest.write_bytes(b"x" * ((1 << 19) - 100))
    cache.objects(TEXTS[2:], host())
    assert used.exists()
    assert newest.exists()
    assert not unused.exists()
    assert not old.exists()


def test_processes_share_a_folder(folder):
    code = (
        "import sys\n"
        "from ganglion.compiler import cache\n"
        "from ganglion.compiler.target import host\n"
        f"for _ in range(20): objects = cache.objects({TEXTS!r}, host())\n"
        "sys.stdout.buffer.write(b''.join(objects))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)
    ]
    results = {process.communicate(timeout=60)[0] for process in running}
    assert results == {b"".join(cache.objects(TEXTS, host()))}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(files(folder)) == 3
