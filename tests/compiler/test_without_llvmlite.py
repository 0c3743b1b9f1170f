"""A machine without llvmlite: everything runs eagerly, and ``compile`` says so once."""

import pytest

from tests.compiler.workloads import python

HIDDEN = "import sys; sys.modules['llvmlite'] = None\n"
TRAINING = """
import warnings
from tests.compiler.workloads import Training, digest
import ganglion as gg
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    compiled = [Training(name).run(2) for name in NAMES]
    gg.compile(gg.nn.Linear(2, 2))(gg.ones(1, 2))
eager = [Training(name, compiled=False).run(2) for name in NAMES]
for a, b in zip(compiled, eager, strict=True):
    assert digest(a.results()) == digest(b.results())
    assert a.traces == 0
    assert "this machine cannot compile" in a.step.explain()
print(*(w.message for w in caught), sep="\\n")
"""
MESSAGE = (
    "ganglion.compile: the package 'llvmlite' is not installed; run: pip install llvmlite. "
    "Everything runs eagerly.\n"
)


def printed(code, **environment):
    done = python("-c", HIDDEN + code, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("kernels", ["0", "1"], ids=["NumPy alone", "compiled kernels allowed"])
def test_everything_runs_eagerly_with_one_message(kernels):
    names = "NAMES = ('mlp64', 'lstm-small', 'cnn-small', 'gpt-small')\n"
    assert printed(names + TRAINING, GANGLION_EAGER_KERNELS=kernels) == MESSAGE


def test_the_interpreter_needs_none():
    code = """
import ganglion as gg
f = gg.compile(lambda x: (x * 2).sum(), backend="interpret")
print(f(gg.ones(3)).item(), f(gg.ones(4)).item(), len(f.specialisations))
"""
    assert printed(code) == "6.0 8.0 2\n"
