"""The language itself, and the meaning of every record against its eager kernel."""

import importlib
import pkgutil

import pytest

import ganglion
import ganglion.ops
from ganglion.ops.record import OPS
from tests.ops import checker, samples
from tests.ops.meaning import Compared

FAMILIES = [
    importlib.import_module(f"{samples.__name__}.{found.name}")
    for found in pkgutil.iter_modules(samples.__path__)
]
SAMPLES = [sample for family in FAMILIES for sample in family.SAMPLES]
POINTWISE = ("elementwise", "cast", "copy")

for found in pkgutil.iter_modules(ganglion.ops.__path__):
    importlib.import_module(f"ganglion.ops.{found.name}")


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_expressions_equal_kernels(sample, request):
    """In float64 and one other dtype, forward and backward; in all dtypes with --full."""
    full = request.config.getoption("--full")
    other = sample.dtypes[len(str(sample)) % len(sample.dtypes)]
    chosen = sample.dtypes if full else {other, *({"float64"} & set(sample.dtypes))}
    ganglion.manual_seed(0)
    with Compared(sample.tolerance):
        for dtype in sorted(chosen):
            sample.run(ganglion, checker.ours(sample.arrays(dtype)))
        if "float64" in chosen:
            checker.walk_gradients(sample)


def test_every_elementwise_record_has_a_meaning():
    missing = {
        op.name
        for op in OPS.values()
        if op.kind in POINTWISE and op.scalar is None and op.decompose is None
    }
    assert not missing, f"give a scalar rule to {sorted(missing)}"
