import re
from pathlib import Path

import pytest

from ganglion.compiler.native import build
from tests.compiler.steps import mlp


@pytest.fixture
def said(monkeypatch, capsys, tmp_path):
    """What a compilation prints at a level, with an empty cache."""
    monkeypatch.setenv("GANGLION_CACHE", str(tmp_path))

    def at(level):
        monkeypatch.setenv("GANGLION_DEBUG", str(level))
        build(mlp()[0])
        return capsys.readouterr().err

    return at


def test_level_0_is_silent(said):
    assert said(0) == ""


def test_level_1_is_one_line(said):
    (line,) = said(1).splitlines()
    stages = r"expand [\d.]+ ms, plan [\d.]+ ms, emit [\d.]+ ms, 0 of \d modules on disk, compile"
    assert re.fullmatch(
        rf"ganglion.compile: 10 kernels, 0 host calls, 4 phases, arena \d+ B, scratch \d+ B; "
        rf"{stages} [\d.]+ ms",
        line,
    )


def test_a_step_from_disk_says_so(said):
    said(1)
    assert re.fullmatch(r"ganglion.compile: \d+ nodes, from disk; read [\d.]+ ms\n", said(1))


def test_modules_from_disk_are_counted(said):
    said(1)
    count = re.search(r"(\d) of (\d) modules on disk", said(2))
    assert count[1] == count[2]


def test_level_2_adds_the_schedule(said):
    text = said(2)
    assert "  0   0 product " in text
    assert "relu(" not in text


def test_level_3_adds_the_graph_after_each_pass(said):
    text = said(3)
    traced, expanded = text.index("traced graph"), text.index("expanded graph")
    assert "linear(" in text[traced:expanded]
    assert "linear(" not in text[expanded:]


def test_level_4_adds_llvm_text_in_files(said):
    (folder,) = re.findall(r"LLVM text of \d modules in (.*)", said(4))
    texts = [path.read_text() for path in sorted(Path(folder).glob("*.ll"))]
    assert "define  void @step0(" in texts[0]
    assert any("@kernel0(" in text for text in texts)
