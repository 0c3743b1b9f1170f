"""What every test run shares: the two tiers, the randomness of properties, the skip report."""

import os
from pathlib import Path

import hypothesis
import pytest

NO_TORCH = "could not import 'torch'"


def pytest_addoption(parser):
    group = parser.getgroup("ganglion")
    group.addoption("--full", action="store_true", help="also run the slow tests marked full")
    group.addoption("--no-skips", action="store_true", help="fail when any test was skipped")


def pytest_configure(config):
    """Properties draw the same examples in every run; more of them with --full."""
    examples = 200 if config.getoption("--full") else 20
    hypothesis.settings.register_profile(
        "ganglion", derandomize=True, database=None, deadline=None, max_examples=examples
    )
    hypothesis.settings.load_profile("ganglion")
    os.environ.setdefault("GANGLION_EAGER_KERNELS", "0")  # NumPy kernels are the oracle
    for threads in ("GANGLION_NUM_THREADS", "OMP_NUM_THREADS"):  # the tests themselves run abreast
        os.environ.setdefault(threads, "1")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"):
        return
    slow = [item for item in items if item.get_closest_marker("full")]
    if slow:
        items[:] = [item for item in items if not item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=slow)


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """Downloads and compiled code of a test run never meet the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANGLION_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def data_root():
    """The folder with local copies of the data sets, or a skip."""
    folder = os.environ.get("GANGLION_DATA")
    if not folder:
        pytest.skip("GANGLION_DATA is not set")
    assert Path(folder).is_dir(), f"GANGLION_DATA={folder!r} is not a folder"
    return Path(folder)


def _skipped(terminal):
    return terminal.stats.get("skipped", [])


def _is_whole_file(report):
    return "::" not in report.nodeid


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    no_skips = session.config.getoption("--no-skips")
    if no_skips and terminal and exitstatus == pytest.ExitCode.OK and _skipped(terminal):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    skipped = _skipped(terminalreporter)
    parity = [report for report in skipped if NO_TORCH in str(report.longrepr)]
    if parity:
        files = sum(map(_is_whole_file, parity))
        terminalreporter.write_line(
            f"parity with PyTorch not tested: {len(parity) - files} tests and {files} whole files "
            "skipped, because torch is not installed (pip install 'ganglion[test]')",
            yellow=True,
        )
    if skipped and config.getoption("--no-skips"):
        terminalreporter.write_line(
            f"--no-skips: {len(skipped)} skipped, so this run counts as failed", red=True
        )
