"""Printed tensors equal PyTorch's, but for the library's name."""

import math

import pytest

import ganglion as gg
from ganglion.errors import ArgumentError

torch = pytest.importorskip("torch")


def assert_prints(call):
    expected = repr(call(torch)).replace("torch.", "ganglion.")
    assert repr(call(gg)) == expected


FLOATS = [
    [1.0, 2.0], [1.0, 2.5], [1e10, 1.0], [1e-5, 1.0], [1e4, 1.5], [123456789.0, 1.0],
    [1.0, math.nan, math.inf], [-1.0, math.inf], [math.nan], -math.inf, [], [[]], 3.0, math.pi,
    1e-8, 1e8, [[1.0, 2.0], [3.0, 4.0]], [99999999.0, 1], [1e-4, 1.0], [1e-3, 999.0],
    [1e-3, 1001.0], [0.0, 1e-10], [1.0000001, 2], [-0.0, 0.0], [1e38, 1e-38], [1e-45], [0.1, 1e5],
    [[1e-3, 2], [3, 1e3]],
]  # fmt: skip


@pytest.mark.parametrize("data", FLOATS, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_floats_choose_one_notation(data, dtype):
    assert_prints(lambda lib: lib.tensor(data, dtype=getattr(lib, dtype)))


@pytest.mark.parametrize(
    "call",
    [
        lambda lib: lib.tensor([1, 200, -3]),
        lambda lib: lib.tensor([True, False]),
        lambda lib: lib.tensor(True),
        lambda lib: lib.tensor([[1, -2], [30, 4]]),
        lambda lib: lib.tensor([1, 10000000000]),
        lambda lib: lib.ones(2, dtype=lib.uint8),
        lambda lib: lib.ones(2, dtype=lib.int32),
        lambda lib: lib.ones(1, dtype=lib.float16) * 65504,
        lambda lib: lib.empty(0, 3, dtype=lib.int64),
        lambda lib: lib.zeros(2, 3, 0),
        lambda lib: lib.arange(24.0).reshape(2, 3, 4),
        lambda lib: lib.arange(12.0).reshape(1, 1, 3, 4),
        lambda lib: lib.arange(100),
        lambda lib: lib.arange(60.0) / 7,
        lambda lib: lib.ones(2, requires_grad=True),
        lambda lib: lib.ones(2, requires_grad=True) * 2,
        lambda lib: lib.ones(2, requires_grad=True).sum(),
        lambda lib: lib.full((8,), 1.5, dtype=lib.float64, requires_grad=True),
        lambda lib: lib.full((9,), 1.5, dtype=lib.float64, requires_grad=True) * 2,
        lambda lib: lib.arange(6.0).reshape(2, 3).t(),
    ],
)
def test_layout_and_suffixes(call):
    assert_prints(call)


@pytest.mark.parametrize(
    "shape", [(1001,), (1000,), (100, 20), (600, 2), (2, 600), (3, 20, 20), (30, 40, 2)]
)
@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_large_tensors_show_their_edges(shape, dtype):
    count = math.prod(shape)
    assert_prints(lambda lib: lib.arange(count, dtype=getattr(lib, dtype)).reshape(shape))


def test_views_and_text_are_the_same_for_str_and_format():
    x = gg.ones(2)
    assert str(x) == repr(x) == f"{x}" == "tensor([1., 1.])"


@pytest.fixture
def usual_options():
    yield
    for lib in (gg, torch):
        lib.set_printoptions(profile="default")


@pytest.mark.usefixtures("usual_options")
@pytest.mark.parametrize(
    "options",
    [
        {"precision": 2},
        {"threshold": 10, "edgeitems": 2},
        {"linewidth": 40},
        {"sci_mode": True},
        {"sci_mode": False},
        {"profile": "short"},
        {"profile": "full"},
    ],
    ids=str,
)
def test_options_change_what_is_printed(options):
    for lib in (gg, torch):
        lib.set_printoptions(**options)
    assert_prints(lambda lib: lib.arange(60.0) / 7)
    assert_prints(lambda lib: lib.arange(40).reshape(8, 5))
    assert_prints(lambda lib: lib.tensor([1e-6, 1.0]))


def test_profiles_have_names():
    with pytest.raises(ArgumentError, match="default, short, full"):
        gg.set_printoptions(profile="long")
