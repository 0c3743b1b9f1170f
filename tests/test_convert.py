"""What tensors turn into, beside PyTorch's."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import ganglion as gg
from ganglion.compiler.trace import trace
from ganglion.errors import ArgumentError, AutogradError, IndexingError, TraceError

torch = pytest.importorskip("torch")

DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"
)  # fmt: skip


def outcome(lib, call):
    """What a call gives in plain Python, or which kind of error."""
    try:
        found = call(lib)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        kinds = (ValueError, TypeError, IndexError, RuntimeError)
        return next(kind for kind in kinds if isinstance(error, kind))
    if isinstance(found, lib.Tensor):
        return str(found.dtype).split(".")[1], tuple(found.shape), found.tolist()
    if isinstance(found, lib.dtype):
        return str(found).split(".")[1]
    return found


def m(lib):
    return lib.arange(6.0).reshape(2, 3)


def v(lib):
    return lib.tensor([1.5, 2.5])


CALLS = [
    lambda lib: bool(v(lib)),
    lambda lib: bool(lib.tensor(0)),
    lambda lib: bool(lib.empty(0)),
    lambda lib: bool(lib.tensor([[1.5]])),
    lambda lib: int(lib.tensor(2.7)),
    lambda lib: int(lib.tensor(-2.7)),
    lambda lib: int(v(lib)),
    lambda lib: float(lib.tensor([2.5])),
    lambda lib: float(v(lib)),
    lambda lib: [10, 20, 30][lib.tensor(1)],
    lambda lib: [10, 20, 30][lib.tensor(1.0)],
    lambda lib: [10, 20, 30][lib.tensor([1, 1])],
    lambda lib: list(range(lib.tensor(3))),
    lambda lib: v(lib).item(),
    lambda lib: lib.tensor(3).item(),
    lambda lib: lib.tensor(True).item(),
    lambda lib: lib.tensor(1.5, dtype=lib.bfloat16).item(),
    lambda lib: len(m(lib)),
    lambda lib: len(lib.tensor(3)),
    lambda lib: [x.tolist() for x in m(lib)],
    lambda lib: list(lib.tensor(3)),
    lambda lib: 1.5 in v(lib),
    lambda lib: 2 in v(lib),
    lambda lib: lib.tensor(1.5) in v(lib),
    lambda lib: "a" in v(lib),
    lambda lib: m(lib).tolist(),
    lambda lib: lib.tensor(3).tolist(),
    lambda lib: v(lib).bfloat16().tolist(),
    lambda lib: v(lib).requires_grad_().tolist(),
    lambda lib: v(lib).requires_grad_().numpy(),
    lambda lib: np.asarray(v(lib).requires_grad_()),
    lambda lib: np.asarray(v(lib), dtype=np.float16).tolist(),
    lambda lib: v(lib).to(lib.float64),
    lambda lib: v(lib).to("cpu"),
    lambda lib: v(lib).to("cpu", lib.int32),
    lambda lib: v(lib).to(lib.device("cpu"), dtype=lib.int32),
    lambda lib: v(lib).to(lib.tensor(3)),
    lambda lib: v(lib).to(dtype=lib.float16, non_blocking=True),
    lambda lib: v(lib).to(),
    lambda lib: v(lib).to(None),
    lambda lib: v(lib).to(int),
    lambda lib: v(lib).type_as(lib.tensor(3)),
    lambda lib: v(lib).type(lib.int64),
    lambda lib: v(lib).cpu(),
    lambda lib: m(lib).size(),
    lambda lib: m(lib).size(-1),
    lambda lib: m(lib).size(dim=0),
    lambda lib: m(lib).size(2),
    lambda lib: m(lib).stride(),
    lambda lib: m(lib).t().stride(),
    lambda lib: m(lib).stride(-1),
    lambda lib: m(lib).dim() + m(lib).ndimension() + m(lib).ndim,
    lambda lib: m(lib).numel() + m(lib).nelement() + lib.numel(m(lib)),
    lambda lib: (m(lib).element_size(), m(lib).nbytes, m(lib).itemsize),
    lambda lib: m(lib)[1:].storage_offset(),
    lambda lib: m(lib).t()[1:].storage_offset(),
    lambda lib: (m(lib).is_contiguous(), m(lib).t().is_contiguous()),
    lambda lib: (m(lib).get_device(), m(lib).is_cuda),
    lambda lib: (lib.is_floating_point(m(lib)), lib.tensor(3).is_floating_point()),
    lambda lib: (m(lib).is_signed(), lib.zeros(1, dtype=lib.uint8).is_signed()),
    lambda lib: lib.is_complex(m(lib)),
    lambda lib: lib.is_same_size(m(lib), v(lib)),
    lambda lib: lib.is_nonzero(lib.tensor(0.0)),
    lambda lib: lib.is_nonzero(v(lib)),
    lambda lib: lib.result_type(m(lib), 1.5),
    lambda lib: lib.result_type(lib.tensor(3), 1.5),
    lambda lib: lib.result_type(lib.tensor([3]), lib.tensor(True)),
    lambda lib: lib.promote_types(lib.int32, lib.uint8),
    lambda lib: lib.can_cast(lib.float32, lib.int64),
    lambda lib: format(lib.tensor(1.23456), ".2f"),
    lambda lib: format(v(lib), ".2f"),
    lambda lib: f"{lib.tensor(7):05d}",
    lambda lib: f"{lib.tensor(1.5)}",
    lambda lib: copy.deepcopy(v(lib)),
]


@pytest.mark.parametrize("call", CALLS, ids=[str(c.__code__.co_firstlineno) for c in CALLS])
def test_a_call_gives_what_pytorchs_gives(call):
    assert outcome(gg, call) == outcome(torch, call)


@pytest.mark.parametrize("name", ["double", "float", "half", "bfloat16", "int", "long", "short"])
def test_casts_are_named_after_types(name):
    assert outcome(gg, lambda lib: getattr(m(lib), name)()) == outcome(
        torch, lambda lib: getattr(m(lib), name)()
    )


@pytest.mark.parametrize("target", DTYPES)
@pytest.mark.parametrize("source", DTYPES)
def test_every_dtype_converts_to_every_other(source, target):
    def call(lib):
        x = lib.tensor([0, 1, 2, 100], dtype=getattr(lib, source))
        return x.to(getattr(lib, target))

    assert outcome(gg, call) == outcome(torch, call)


def test_to_gives_the_tensor_itself_where_nothing_changes():
    x = gg.ones(2)
    assert x.to(gg.float32) is x.to("cpu") is x.to(x) is x.float() is x.cpu() is x
    assert x.to(gg.float32, copy=True) is not x
    assert x.to(gg.float32, False, True) is not x


def test_gradients_flow_through_conversions():
    x = gg.ones(2, requires_grad=True)
    x.double().to(gg.float16).float().sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert x.grad.dtype is gg.float32


def test_there_is_no_other_device():
    with pytest.raises(ArgumentError, match="'cuda' is not available"):
        gg.ones(2).cuda()
    assert gg.ones(2).device == gg.device("cpu")
    assert not gg.cuda.is_available()


def test_numpy_shares_memory():
    x = gg.ones(2)
    x.numpy()[0] = 5
    assert x.tolist() == [5, 1]
    y = gg.ones(2, requires_grad=True)
    assert y.numpy(force=True).tolist() == [1, 1]
    assert np.shares_memory(np.asarray(x), x.numpy())
    assert not np.shares_memory(np.array(x, copy=True), x.numpy())


def test_a_tensor_with_gradients_still_gives_its_number():
    x = gg.tensor(2.5, requires_grad=True)
    assert float(x) == x.item() == 2.5


def test_numpy_operators_give_way():
    assert isinstance(np.ones(2, np.float32) * gg.ones(2), gg.Tensor)
    assert isinstance(np.float32(2) * gg.ones(2), gg.Tensor)


def test_types_have_names():
    assert gg.ones(2).type() == "ganglion.FloatTensor"
    assert gg.ones(2).type("torch.LongTensor").dtype is gg.int64
    assert gg.ones(2).type(gg.LongTensor).dtype is gg.int64


def test_tensors_are_told_apart_by_identity():
    a, b = gg.ones(2), gg.ones(2)
    assert len({a, b, a}) == 2
    assert hash(a) == hash(a)


def test_only_what_has_no_history_exports_by_dlpack():
    with pytest.raises(AutogradError, match="detach"):
        gg.ones(2, requires_grad=True).__dlpack__()


def test_a_zero_dimensional_tensor_has_no_dimension_to_name():
    for call in (gg.tensor(1.0).size, gg.tensor(1.0).stride):
        with pytest.raises((IndexingError, RuntimeError), match="dimension"):
            call(0)


# --- copies ---------------------------------------------------------------------------------------


def test_copy_shares_and_deepcopy_does_not():
    x = gg.ones(2)
    shallow, deep = copy.copy(x), copy.deepcopy(x)
    x.add_(1)
    assert shallow.tolist() == [2, 2]
    assert deep.tolist() == [1, 1]


def test_deepcopy_keeps_leaves_gradients_and_identity():
    x = gg.ones(2, requires_grad=True)
    (x * 3).sum().backward()
    y, z = copy.deepcopy([x, x])
    assert y is z
    assert y.requires_grad
    assert y.is_leaf
    assert y.grad.tolist() == [3, 3]
    y.grad.zero_()
    assert x.grad.tolist() == [3, 3]


def test_deepcopy_refuses_computed_tensors():
    with pytest.raises(AutogradError, match="graph leaves"):
        copy.deepcopy(gg.ones(2, requires_grad=True) * 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pickle_keeps_values_dtype_and_flag(dtype):
    x = gg.tensor([[0, 1], [2, 3]], dtype=getattr(gg, dtype)).t()
    y = pickle.loads(pickle.dumps(x))
    assert y.tolist() == x.tolist()
    assert y.dtype is x.dtype
    assert y.is_contiguous()


def test_pickle_keeps_requires_grad_and_zero_dimensions():
    y = pickle.loads(pickle.dumps(gg.tensor(1.5, requires_grad=True)))
    assert y.requires_grad
    assert y.shape == ()
    (y * 2).backward()
    assert y.grad.item() == 2


def test_pickle_knows_subclasses_and_containers():
    state = OrderedDict(weight=gg.nn.Parameter(gg.ones(2)))
    back = pickle.loads(pickle.dumps(state))
    assert isinstance(back["weight"], gg.nn.Parameter)
    assert back["weight"].requires_grad


@pytest.mark.parametrize("name", DTYPES)
def test_dtypes_pickle_to_themselves(name):
    dtype = getattr(gg, name)
    assert pickle.loads(pickle.dumps(dtype)) is dtype
    assert copy.deepcopy(dtype) is dtype


# --- in a trace -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look",
    [gg.Tensor.item, gg.Tensor.tolist, gg.Tensor.numpy, float, int, bool, np.asarray, hash],
    ids=lambda f: f.__name__,
)
def test_a_trace_knows_no_values(look):
    def step(x):
        look(x)
        return x * 2

    if look is hash:  # identity is no value
        trace(step, gg.ones(1))
    else:
        with pytest.raises(TraceError, match=r"test_convert\.py"):
            trace(step, gg.ones(1))


def test_a_traced_tensor_prints_its_type_and_knows_its_layout():
    seen = []

    def step(x):
        seen.append((repr(x), x.stride(), x.numel(), x.is_contiguous(), x.double().dtype))
        return x * 2

    trace(step, gg.ones(2, 3))
    assert seen == [("tensor(<traced>, size=(2, 3))", (3, 1), 6, True, gg.float64)]
