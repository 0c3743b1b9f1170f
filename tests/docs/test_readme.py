"""Every Python example in the documentation runs as it stands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
EXAMPLES = [
    pytest.param(page, code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, code in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1
    )
]


@pytest.mark.parametrize(("page", "code"), EXAMPLES)
def test_example_runs(page, code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(page), "exec"), {"__name__": "example"})
    assert "Error" not in capsys.readouterr().out


def test_the_readme_names_the_two_commands():
    text = (ROOT / "README.md").read_text()
    assert "pip install '.[data]' && ganglion train digits" in text
    assert "pip install '.[test]' && pytest" in text


def test_the_first_network_takes_ten_lines_and_learns(capsys):
    code = EXAMPLES[0].values[1]
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    exec(code, {})
    assert float(capsys.readouterr().out.split()[-1]) < 0.01
