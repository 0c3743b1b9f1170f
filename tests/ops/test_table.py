"""Walks the samples of every op family; `tests/ops/samples/__init__.py` says how to write one."""

import importlib
import pkgutil

import pytest

import ganglion
import ganglion.ops
from ganglion.errors import GanglionError
from ganglion.ops.record import OPS
from tests.ops import checker, samples

FAMILIES = [
    importlib.import_module(f"{samples.__name__}.{found.name}")
    for found in pkgutil.iter_modules(samples.__path__)
]
SAMPLES = [sample for family in FAMILIES for sample in family.SAMPLES]
REFUSED = [call for family in FAMILIES for call in getattr(family, "REFUSED", ())]
QUICK = 3  # dtypes walked per sample without --full

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=str)
smooth = [s for s in SAMPLES if s.smooth and "float64" in s.dtypes]
every_smooth = pytest.mark.parametrize("sample", smooth, ids=str)
parity = [s for s in SAMPLES if s.parity]
every_parity = pytest.mark.parametrize("sample", parity, ids=str)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def full(request):
    return request.config.getoption("--full")


def walked(sample, full):
    """All dtypes with --full; else a few of them, others for each sample, float64 among them."""
    dtypes = sample.dtypes
    if full or len(dtypes) <= QUICK:
        return dtypes
    start = len(str(sample)) % len(dtypes)
    some = (dtypes * 2)[start : start + QUICK]
    return (*some, "float64") if "float64" in dtypes and "float64" not in some else some


@every_sample
def test_every_call_keeps_its_shape_rule(sample, full):
    with checker.Watch():
        for dtype in walked(sample, full):
            sample.run(ganglion, checker.ours(sample.arrays(dtype)))


@every_parity
def test_values_equal_pytorch(sample, torch, full):
    for dtype in walked(sample, full):
        checker.check_forward(sample, torch, dtype, gaps=False)
    checker.check_forward(sample, torch, sample.dtypes[-1], gaps=True)


@every_parity
def test_gradients_equal_pytorch(sample, torch):
    if "float64" in sample.dtypes:
        checker.check_gradients(sample, torch, "float64")


@every_smooth
def test_gradients_equal_finite_differences(sample):
    checker.check_differences(sample)


@every_smooth
def test_second_gradients_equal_finite_differences(sample):
    checker.check_second_differences(sample)


@every_sample
def test_traced_calls_equal_eager_ones(sample):
    checker.check_traced(sample, "float64" if "float64" in sample.dtypes else sample.dtypes[0])


@pytest.mark.parametrize("call", REFUSED, ids=str)
def test_refused_calls_raise(call):
    with pytest.raises(call.error, match=call.match) as caught:
        call.run(ganglion, checker.ours(call.arrays(call.dtype)))
    assert isinstance(caught.value, GanglionError)


@pytest.mark.parametrize("call", [c for c in REFUSED if c.parity], ids=str)
def test_pytorch_refuses_them_too(call, torch):
    with pytest.raises(call.torch_error):
        call.run(torch, checker.theirs(torch, call.arrays(call.dtype)))


def test_every_differentiable_op_has_a_sample_of_its_gradient():
    for found in pkgutil.iter_modules(ganglion.ops.__path__):
        importlib.import_module(f"ganglion.ops.{found.name}")
    with checker.Watch() as watch:
        for sample in SAMPLES:
            if "float64" in sample.dtypes:
                checker.walk_gradients(sample)
    missing = {name for name, op in OPS.items() if op.vjp is not None} - watch.differentiated
    assert not missing, f"add samples in tests/ops/samples for {sorted(missing)}"
