"""Files: whole or absent, bit for bit, and never a pickle."""

import io
import json
import math
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion as gg
from ganglion.errors import ArgumentError, ArgumentTypeError, CheckpointError, NotFoundError
from ganglion.serialize import atomic_write, load, load_file, save, save_file, sync

DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()


def round_trip(tree):
    file = io.BytesIO()
    save(tree, file)
    file.seek(0)
    return load(file)


# --- atomic_write -------------------------------------------------------------------------------


def test_a_file_appears_with_its_contents_and_nothing_beside_it(tmp_path):
    atomic_write(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failing_writer_leaves_the_old_file_and_no_trace(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic_write(tmp_path / "a", fail)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_contents_reach_the_disk_before_the_name_and_the_name_before_returning(
    tmp_path, monkeypatch
):
    calls = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=original: (calls.append(n), f(*a))[1])
    atomic_write(tmp_path / "a", lambda file: file.write(b"new"))
    assert calls == ["fsync", "replace", "fsync"]
    calls.clear()
    atomic_write(tmp_path / "a", lambda file: file.write(b"newer"), durable=False)
    assert calls == ["replace"]
    sync(tmp_path / "a")
    assert calls == ["replace", "fsync", "fsync"]
    assert (tmp_path / "a").read_bytes() == b"newer"


def test_the_file_has_the_permissions_of_an_ordinary_new_file(tmp_path):
    (tmp_path / "plain").touch()
    atomic_write(tmp_path / "a", lambda file: None)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(NotFoundError, match="nowhere does not exist"):
        atomic_write(tmp_path / "nowhere" / "a", lambda file: None)


# --- dictionaries of tensors --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_survives_bit_for_bit(tmp_path, dtype):
    tensors = {
        "matrix": gg.tensor([[0, 1, 1], [1, 0, 0]]).to(getattr(gg, dtype)),
        "number": gg.tensor(1).to(getattr(gg, dtype)),
        "empty": gg.zeros(0, 3).to(getattr(gg, dtype)),
    }
    save_file(tensors, tmp_path / "t.safetensors")
    found = load_file(tmp_path / "t.safetensors")
    assert {name: bits(t) for name, t in found.items()} == {
        name: bits(t) for name, t in tensors.items()
    }


def test_views_and_parameters_are_saved_as_what_they_show(tmp_path):
    x = gg.arange(6).reshape(2, 3)
    p = gg.nn.Parameter(gg.ones(2))
    save_file({"t": x.t(), "p": p}, tmp_path / "t.safetensors")
    found = load_file(tmp_path / "t.safetensors")
    assert found["t"].tolist() == x.t().tolist()
    assert type(found["p"]) is gg.Tensor
    assert not found["p"].requires_grad


def test_loaded_tensors_can_be_written_to_and_do_not_touch_the_file(tmp_path):
    save_file({"a": gg.zeros(2)}, tmp_path / "t.safetensors")
    load_file(tmp_path / "t.safetensors")["a"].add_(1)
    assert load_file(tmp_path / "t.safetensors")["a"].tolist() == [0, 0]


def test_a_module_goes_to_a_file_and_back(tmp_path):
    a, b = gg.nn.Linear(3, 2), gg.nn.Linear(3, 2)
    save_file(a.state_dict(), tmp_path / "m.safetensors")
    b.load_state_dict(load_file(tmp_path / "m.safetensors"))
    assert bits(a.weight.detach()) == bits(b.weight.detach())


def test_pytorch_reads_our_files_and_we_read_theirs(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors import torch as theirs

    save_file({"a": gg.tensor([1.5, -0.0]), "h": gg.ones(2).bfloat16()}, tmp_path / "ours")
    read = theirs.load_file(tmp_path / "ours")
    assert read["a"].tolist() == [1.5, -0.0]
    assert read["h"].dtype is torch.bfloat16
    theirs.save_file({"b": torch.full((2,), 0.1, dtype=torch.bfloat16)}, tmp_path / "theirs")
    found = load_file(tmp_path / "theirs")["b"]
    assert found.dtype is gg.bfloat16
    assert found.float().tolist() == torch.full((2,), 0.1, dtype=torch.bfloat16).tolist()
    assert load(tmp_path / "theirs")["b"].dtype is gg.bfloat16


def test_save_file_refuses_what_is_no_tensor(tmp_path):
    with pytest.raises(ArgumentTypeError, match="'lr': float"):
        save_file({"lr": 0.1}, tmp_path / "t")
    with pytest.raises(ArgumentError, match="__metadata__"):
        save_file({"__metadata__": gg.ones(1)}, tmp_path / "t")
    assert not any(tmp_path.iterdir())


# --- trees --------------------------------------------------------------------------------------

keys = st.one_of(
    st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text())
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=20,
)


def spelled(value):
    """The tree with types, key order and the bits of its floats."""
    if isinstance(value, dict):
        return ["dict", *((spelled(k), spelled(v)) for k, v in value.items())]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(spelled, value)]
    if isinstance(value, float):
        return ["float", struct.pack("<d", value)]
    return [type(value).__name__, value]


@given(trees)
def test_any_tree_of_plain_values_comes_back_exactly(tree):
    assert spelled(round_trip(tree)) == spelled(tree)


@pytest.mark.parametrize("value", [math.nan, -math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1])
def test_floats_come_back_bit_for_bit(value):
    assert struct.pack("<d", round_trip({"a": [value]})["a"][0]) == struct.pack("<d", value)


def test_tensors_stand_in_the_file_under_their_path(tmp_path):
    tree = {"model": {"fc.weight": gg.ones(2)}, "slots": [{0: gg.zeros(1)}], "step": 3}
    save(tree, tmp_path / "t")
    assert sorted(load_file(tmp_path / "t")) == ["model.fc.weight", "slots.0.0"]
    found = load(tmp_path / "t")
    assert found["model"]["fc.weight"].tolist() == [1, 1]
    assert found["slots"][0][0].tolist() == [0]
    assert list(found) == ["model", "slots", "step"]


def test_tensors_whose_paths_collide_are_kept_apart():
    tree = {"a.b": gg.tensor(1), "a": {"b": gg.tensor(2)}, "__metadata__": gg.tensor(3)}
    found = round_trip(tree)
    assert [found["a.b"].item(), found["a"]["b"].item()] == [1, 2]
    assert found["__metadata__"].item() == 3


def test_a_tensor_alone_is_a_tree():
    assert round_trip(gg.ones(2)).tolist() == [1, 1]


def test_arrays_and_numpy_scalars_keep_their_type():
    tree = {"key": np.arange(3, dtype=np.uint32), "lr": np.float32(0.1), "big": np.float64("nan")}
    found = round_trip(tree)
    assert found["key"].dtype == np.uint32
    assert isinstance(found["lr"], np.float32)
    assert found["lr"] == np.float32(0.1)
    assert isinstance(found["big"], np.float64)


def test_an_ordered_dict_becomes_a_plain_one_in_the_same_order():
    found = round_trip(OrderedDict(b=1, a=2))
    assert type(found) is dict
    assert list(found) == ["b", "a"]


@pytest.mark.parametrize(
    ("tree", "place"),
    [
        ({"a": [1, {2}]}, "set at 'a.1'"),
        (object(), "object at 'the top'"),
        ({"x": np.array(["text"])}, "dtype <U4 at 'x'"),
        ({"z": 1j}, "complex at 'z'"),
    ],
)
def test_anything_else_is_refused_with_its_place(tmp_path, tree, place):
    with pytest.raises(ArgumentTypeError, match=place):
        save(tree, tmp_path / "t")
    assert not any(tmp_path.iterdir())


def test_equal_trees_give_equal_bytes(tmp_path):
    tree = {"b": gg.ones(3), "a": {1: gg.zeros(2, dtype=gg.int64)}, "n": [1.5, None]}
    for name in ("one", "two"):
        save(tree, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_optimizer_state_survives():
    p = gg.nn.Parameter(gg.ones(2))
    optimizer = gg.optim.Adam([p], betas=(0.8, 0.99))
    p.sum().backward()
    optimizer.step()
    found = round_trip(optimizer.state_dict())
    assert found["param_groups"] == optimizer.state_dict()["param_groups"]
    assert found["state"].keys() == {0}
    for name, slot in optimizer.state_dict()["state"][0].items():
        assert bits(found["state"][0][name]) == bits(slot)


# --- damage and foreign files -------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "t.safetensors"
    save({"w": gg.arange(5), "note": "some words to damage"}, path)
    return path


@pytest.mark.parametrize("reader", [load, load_file])
def test_a_truncated_file_is_refused_wherever_it_ends(saved, reader):
    whole = saved.read_bytes()
    for length in {0, 1, 7, 8, 9, len(whole) // 2, len(whole) - 1}:
        saved.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"t\.safetensors"):
            reader(saved)


def test_no_flipped_bit_gives_wrong_values(saved):
    whole, accepted = saved.read_bytes(), 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        saved.write_bytes(damaged)
        try:
            found = load(saved)
        except CheckpointError as error:
            assert "t.safetensors" in str(error)  # noqa: PT017
        else:  # our key's name was hit, and tensors remain as of any safetensors file
            accepted += 1
            assert "note" not in found
    assert accepted < 25


def test_bytes_after_the_end_are_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"x")
    with pytest.raises(CheckpointError, match=r"t\.safetensors"):
        load(saved)


def test_pickles_and_pt_files_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w": [1]}))
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    for name in ("a.pkl", "a.pt"):
        for reader in (load, load_file):
            with pytest.raises(CheckpointError, match=r"safetensors\.torch\.save_file"):
                reader(tmp_path / name)


def test_a_real_pt_file_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"torch\.save"):
        load(tmp_path / "a.pt")


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    for length in range(40):  # some header has 0x80 as its first byte
        save_file({"x": gg.ones(1)}, tmp_path / "t", {"note": "y" * length})
        assert load_file(tmp_path / "t")["x"].tolist() == [1]


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"gone\.safetensors: it does not exist"):
        load(tmp_path / "gone.safetensors")
    with pytest.raises(NotFoundError, match="it is a folder"):
        load_file(tmp_path)


def test_foreign_structure_is_damage_not_a_crash(tmp_path):
    for text in ("{", "[]", json.dumps({"crc32": 1}), json.dumps({"crc32": 0, "tree": 1})):
        save_file({"x": gg.ones(1)}, tmp_path / "t", {"ganglion": text})
        with pytest.raises(CheckpointError, match="damaged"):
            load(tmp_path / "t")
