"""What the tests of compiled functions share."""

import pytest


@pytest.fixture
def interpreted(monkeypatch):
    """Programs are interpreted, so that they have the bits of eager execution."""
    monkeypatch.setenv("GANGLION_COMPILER", "interpret")
