"""Commands are run in this process, in a folder of their own."""

import pytest

from ganglion.cli.app import run
from tests.cli.tables import FLOWERS, HOUSES, flowers, houses, write_csv


@pytest.fixture
def gang(capsys, tmp_path, monkeypatch):
    """Runs one command line in an empty folder; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, *capsys.readouterr()

    return command


@pytest.fixture
def flowers_csv(tmp_path):
    return write_csv(tmp_path / "flowers.csv", FLOWERS, flowers(400, missing=0.05))


@pytest.fixture
def houses_csv(tmp_path):
    return write_csv(tmp_path / "houses.csv", HOUSES, houses(400))
