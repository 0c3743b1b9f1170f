import gc
import math
import struct
import threading
import weakref
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion import graph as g
from ganglion.errors import ArgumentTypeError, GraphError, ShapeError
from ganglion.graph import Graph, Node, Origin, Value, argument, constant, content, state
from ganglion.shapes import Meta, Size


def f32(*shape):
    return Meta(shape, dt.float32)


def op(name, *inputs, meta=None, unique=None, **params):
    outputs = (meta or inputs[0].meta,)
    return Value(Node(name, inputs, params.items(), outputs, unique))


def dense_step():
    x, w, b = argument(0, f32(32, 784)), state(0, f32(128, 784)), state(1, f32(128))
    h = op("linear", x, w, b, meta=f32(32, 128))
    mask = op("bernoulli", meta=Meta((32, 128), dt.bool_), unique=0, p=0.5)
    top = Node("max_dim", [h], [("dim", 1)], [f32(32), Meta((32,), dt.int64)])
    loss = op("where", mask, h, constant(0.1, dt.float32), meta=f32(32, 128))
    new = op("sub", w, op("mul", w, constant(1e-3, dt.float32)))
    return Graph((x,), (w, b), (loss, Value(top, 1)), ((0, new), (1, b)))


DENSE = dedent("""\
    %0: f32[32,784] = input(position=0)
    %1: f32[128,784] = state(slot=0)
    %2: f32[128] = state(slot=1)
    %3: b1[32,128] = bernoulli!0(p=0.5)
    %4: f32[32,128] = linear(%0, %1, %2)
    %5: f32[] = const(value=0.1)
    %6: f32[32,128] = where(%3, %4, %5)
    %7: (f32[32], i64[32]) = max_dim(%4, dim=1)
    %8: f32[] = const(value=0.001)
    %9: f32[128,784] = mul(%1, %8)
    %10: f32[128,784] = sub(%1, %9)
    return %6, %7.1
    update 0 = %10
    update 1 = %2
    """)


# --- nodes ---------------------------------------------------------------------------------------


def test_equal_nodes_are_one_node():
    x = argument(0, f32(3))
    assert op("exp", x).node is op("exp", x).node
    assert op("exp", x) == op("exp", x)
    assert hash(op("exp", x)) == hash(op("exp", x))
    assert op("sum", x, dim=(0, 1), keepdim=True) == op("sum", x, keepdim=True, dim=[0, 1])
    assert op("exp", op("neg", x)).node is op("exp", op("neg", x)).node


def test_nodes_that_differ_in_anything_stay_apart():
    x, y = argument(0, f32(3)), argument(1, f32(3))
    nodes = [
        op("exp", x),
        op("log", x),
        op("exp", y),
        op("exp", x, None),
        op("exp", x, dim=1),
        op("exp", x, axis=1),
        op("exp", x, meta=f32(4)),
        op("exp", x, unique=1),
        op("exp", x, unique=2),
    ]
    assert len(set(nodes)) == len(nodes)


def test_params_that_python_calls_equal_stay_apart():
    x = argument(0, f32(3))
    values = [
        1,
        1.0,
        True,
        0,
        0.0,
        -0.0,
        False,
        None,
        "1",
        (1,),
        (1.0,),
        ((1,),),
        "f32",
        dt.float32,
    ]
    assert len({op("add", x, value=value) for value in values}) == len(values)
    assert op("add", x, value=math.nan) == op("add", x, value=-float("nan"))


def test_params_become_plain_python():
    given = {
        "a": np.int64(3),
        "b": np.float32(0.5),
        "c": np.bool_(True),
        "d": Size((2, 3)),
        "e": [1],
    }
    found = op("f", argument(0, f32()), **given).node.kwargs
    assert found == {"a": 3, "b": 0.5, "c": True, "d": (2, 3), "e": (1,)}
    assert [type(value) for value in found.values()] == [int, float, bool, tuple, tuple]


@pytest.mark.parametrize(
    "value", [np.zeros(3), {}, {1}, 1j, object(), (1, [b"x"]), np.longdouble(1)]
)
def test_other_params_are_refused(value):
    with pytest.raises(ArgumentTypeError, match="a graph cannot hold"):
        op("f", argument(0, f32()), value=value)


def test_nodes_never_change():
    node = op("exp", argument(0, f32(3))).node
    with pytest.raises(AttributeError, match="never change"):
        node.op_name = "log"
    with pytest.raises(AttributeError):
        op("exp", argument(0, f32(3))).index = 1


def test_values_know_their_meta():
    node = Node("max_dim", [argument(0, f32(3, 4))], [("dim", 1)], [f32(3), Meta((3,), dt.int64)])
    first, second = node.values
    assert (first.shape, first.dtype) == ((3,), dt.float32)
    assert second.meta == Meta((3,), dt.int64)
    assert repr(first) == "Value(node=<node (f32[3], i64[3]) = max_dim>, index=0)"


def test_nodes_are_freed_without_the_garbage_collector():
    gc.disable()
    try:
        others = set(map(id, g._nodes.values()))  # equal nodes may be held elsewhere
        graph = dense_step()
        nodes = [weakref.ref(node) for node in graph.topological() if id(node) not in others]
        assert nodes
        del graph
        assert not any(node() for node in nodes)
        assert len(g._nodes) == len(others)
    finally:
        gc.enable()


def test_threads_that_make_equal_nodes_get_one():
    x, made, start = argument(0, f32(3)), [[] for _ in range(4)], threading.Barrier(4)

    def work(mine):
        start.wait()
        mine += [op("exp", x, step=i) for i in range(500)]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(set(same)) == 1 for same in zip(*made, strict=True))


@pytest.mark.parametrize("value", [0.1, -0.0, 3, True, math.inf])
def test_number_constants_stay_python_numbers(value):
    found = content(constant(value, dt.of_scalar(value)).node)
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize("dtype", dt.ALL, ids=str)
def test_array_constants_keep_every_bit(dtype):
    if dtype is dt.bfloat16:
        pytest.importorskip("ml_dtypes")
    array = np.arange(-3, 3).reshape(2, 3).astype(dtype.numpy)
    if dtype.is_floating_point:
        array = (array / np.array(7, dtype.numpy)).astype(dtype.numpy)
        array[0, 0], array[0, 1] = -0.0, np.inf
    value = constant(array, dtype)
    found = content(parsed_node(value))
    assert value.meta == Meta((2, 3), dtype)
    assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, (2, 3), array.tobytes())


def parsed_node(value):
    return g.parse(Graph((), (), (value,)).text()).outputs[0].node


def test_arrays_of_no_and_of_zero_dimensions_are_constants():
    for array in (np.array(2.5, np.float32), np.zeros((0, 3), np.float32)):
        found = content(parsed_node(constant(array, dt.float32)))
        assert isinstance(found, np.ndarray)
        assert found.shape == array.shape
        assert found.tolist() == array.tolist()


# --- graphs --------------------------------------------------------------------------------------


def test_order_is_inputs_states_then_what_results_need():
    graph = dense_step()
    order = graph.topological()
    names = "input state state bernoulli linear const where max_dim const mul sub"
    assert " ".join(node.op_name for node in order) == names
    place = {node: i for i, node in enumerate(order)}
    assert all(place[value.node] < place[node] for node in order for value in node.operands)


def test_users_are_listed_once_per_reading():
    x = argument(0, f32(3))
    y = op("mul", x, x)
    z = op("exp", y)
    users = Graph((x,), (), (z,)).users()
    assert users == {x.node: [y.node, y.node], y.node: [z.node], z.node: []}


def test_graphs_print_as_text():
    assert dense_step().text() == DENSE
    assert str(dense_step()) == DENSE


def test_text_reads_back_as_the_identical_graph():
    graph = dense_step()
    again = g.parse(DENSE)
    assert again == graph
    assert again.outputs[0].node is graph.outputs[0].node
    assert again.text() == DENSE


def test_every_kind_of_param_prints_and_reads_back():
    x = argument(0, f32(3))
    y = op(
        "index",
        x,
        None,
        a=(slice(1, None, -2), ..., None, 3),
        b=((), (1,), ((True, False),)),
        c=(1e-5, -0.0, 1e300, -math.inf, math.nan, 3.0),
        d="it's %0, a \"#\\ text\n = f(1)",
        e=dt.bfloat16,
        f=(-5, 2**70),
    )
    graph = Graph((x,), (), (y,))
    assert graph.text().splitlines()[1] == (
        "%1: f32[3] = index(%0, None, a=(slice(1, None, -2), ..., None, 3), "
        "b=((), (1,), ((True, False),)), c=(1e-05, -0.0, 1e+300, -inf, nan, 3.0), "
        "d='it\\'s %0, a \"#\\\\ text\\n = f(1)', e=bf16, f=(-5, 1180591620717411303424))"
    )
    assert g.parse(graph.text()) == graph


def test_origins_print_as_comments_and_are_not_part_of_the_graph():
    x = argument(0, f32(3))
    y = op("exp", x)
    origins = {y.node: Origin("train.py", 31, "encoder.layers.2"), x.node: Origin("train.py", 30)}
    graph = Graph((x,), (), (y,), origins=origins)
    assert graph.text(origins=True) == dedent("""\
        %0: f32[3] = input(position=0)  # train.py:30
        %1: f32[3] = exp(%0)  # train.py:31 encoder.layers.2
        return %1
        """)
    assert g.parse(graph.text(origins=True)) == graph == Graph((x,), (), (y,))


def test_text_may_be_indented_commented_and_numbered_freely():
    graph = g.parse("""
        # a doubling
        %7: f32[3] = input(position=0)  # the argument
        %3: (f32[3], f32[3]) = both(%7)

        return %3, %3.1, %3.0  # all
        """)
    assert graph.text() == dedent("""\
        %0: f32[3] = input(position=0)
        %1: (f32[3], f32[3]) = both(%0)
        return %1.0, %1.1, %1.0
        """)


def test_graphs_without_outputs_and_nodes_without_outputs():
    assert g.parse("return") == g.parse("") == Graph((), (), ())
    graph = Graph((), (), (Value(Node("nothing")),))
    assert graph.text() == "%0: () = nothing()\nreturn %0.0\n"
    assert g.parse(graph.text()) == graph


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("%1: f32[3] = exp(%2)", "%2 is used before it is defined"),
        ("%0: f32[3] = exp(%0)", "%0 is defined twice"),
        ("%1: f99[3] = exp(%0)", "'f99' is no dtype"),
        ("%1: inf[3] = exp(%0)", "'inf' is no dtype"),
        ("%1: f32[3] = exp(%0", "was never closed"),
        ("%1: f32[3] = exp(%0) + 1", "expected one pair of parentheses"),
        ("%1: f32[3] = exp(%0)(%0)", "expected one pair of parentheses"),
        ("%1: f32[3] = exp(x)", "expected a value such as %0, got 'x'"),
        ("%1: f32[3] = exp(%0, dim=x)", "'x' is no dtype"),
        ("%1: f32[3] = exp(%0, dim=1 + 1)", "'1 \\+ 1' is no parameter"),
        ("%1: f32[3] = exp(%0, dim=1j)", "a graph cannot hold 1j"),
        ("%1 = exp(%0)", "expected '%0: f32\\[2,3\\] = name"),
        ("return %1", "%1 is used before it is defined"),
        ("return 3", "expected a value such as %0, got '3'"),
        ("update x = %0", "invalid literal"),
        ("update 0 = %0, %0", "too many values"),
    ],
)
def test_bad_text_is_refused_with_its_line(line, problem):
    with pytest.raises(GraphError, match=f"(?s)^line 2 of a graph's text, .*{problem}"):
        g.parse(f"%0: f32[3] = input(position=0)\n{line}")


def bits(value):
    return struct.pack("d", value) if isinstance(value, float) else repr(value)


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.sampled_from(dt.ALL),
    st.just(...),
    st.builds(slice, *[st.none() | st.integers(-9, 9)] * 3),
)
params = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
metas = st.builds(
    Meta, st.lists(st.integers(0, 99), max_size=3).map(tuple), st.sampled_from(dt.ALL)
)
names = st.sampled_from(["add", "nan_to_num", "inf", "slice", "conv2d", "x.y", "update", "f32"])


@st.composite
def graphs(draw):
    inputs = [argument(i, meta) for i, meta in enumerate(draw(st.lists(metas, max_size=3)))]
    states = [state(i, meta) for i, meta in enumerate(draw(st.lists(metas, max_size=3)))]
    values = [None, *inputs, *states, constant(draw(st.floats(allow_nan=False)), dt.float64)]
    for _ in range(draw(st.integers(0, 8))):
        node = Node(
            draw(names),
            draw(st.lists(st.sampled_from(values), max_size=3)),
            draw(st.dictionaries(st.sampled_from(["dim", "p", "_x1"]), params)).items(),
            draw(st.lists(metas, min_size=1, max_size=3)),
            draw(st.none() | st.integers(0, 5)),
        )
        values += node.values
    outputs = draw(st.lists(st.sampled_from(values[1:]), max_size=3))
    updates = [(i, draw(st.sampled_from([v for v in values[1:] if v.meta == s.meta])))
               for i, s in enumerate(states)]  # fmt: skip
    return Graph(tuple(inputs), tuple(states), tuple(outputs), tuple(updates))


@given(graphs())
def test_any_graph_reads_back_and_obeys_the_rules(graph):
    text = graph.text()
    again = g.parse(text)
    assert again == graph
    assert again.text() == text
    g.verify(again)


@given(params)
def test_any_param_reads_back_with_every_bit(value):
    node = op("f", argument(0, f32()), value=value).node
    found = parsed_node(Value(node)).kwargs["value"]
    assert parsed_node(Value(node)) is node
    assert bits(found) == bits(value)


def chain(length):
    value = argument(99, f32(3))  # a node of this graph alone
    inputs = (value,)
    for i in range(length):
        value = op("add", value, value, step=i)
    return Graph(inputs, (), (value,))


def test_deep_graphs_do_not_recurse():
    graph = chain(50_000)
    g.verify(graph)
    assert len(graph.topological()) == 50_001
    assert hash(graph) == hash(Graph(graph.inputs, (), graph.outputs))
    assert "add" in repr(graph)
    text = graph.text()
    again = g.parse(text)
    assert again == graph
    count = len(g._nodes)
    del graph, again
    assert len(g._nodes) == count - 50_001


# --- verify --------------------------------------------------------------------------------------


def infer(op_name, metas, params):
    if op_name == "cat":
        raise ShapeError("these do not fit")
    shape = metas[0].shape[:-1] if op_name == "sum" else metas[0].shape
    return (Meta(shape, params.get("dtype", metas[0].dtype)),)


def test_verify_accepts_a_right_graph_and_recomputes_its_metas():
    x = argument(0, f32(3, 4))
    y = op("cast", op("sum", x, meta=f32(3)), meta=Meta((3,), dt.int64), dtype=dt.int64)
    g.verify(Graph((x,), (), (y,)), infer)
    g.verify(dense_step())


def test_verify_passes_none_for_inputs_left_out():
    x = argument(0, f32(3))
    seen = []
    graph = Graph((x,), (), (op("linear", x, None, bias=False),))
    g.verify(graph, lambda *call: seen.append(call) or (f32(3),))
    assert seen == [("linear", (f32(3), None), {"bias": False})]


x3, s3 = argument(0, f32(3)), state(0, f32(3))


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        (Graph((), (), (op("exp", x3),)), "%0 input is not listed among the graph's inputs"),
        (Graph((x3,), (), (op("exp", s3),)), "%1 state is not listed among the graph's states"),
        (Graph((), (), (Value(op("exp", x3).node, 1),)), "reads output 1 of 'exp', which has 1"),
        (
            Graph((x3,), (), (op("f", Value(x3.node, -1)),)),
            "reads output -1 of 'input', which has 1",
        ),
        (Graph((s3,), (), ()), "state is listed among the graph's inputs and is none"),
        (Graph((x3, x3), (), ()), "input is listed twice among the graph's inputs"),
        (
            Graph((x3, argument(0, f32(4))), (), ()),
            "input is listed twice among the graph's inputs",
        ),
        (Graph((), (s3,), (), ((1, s3),)), "updates slot 1, which no state has"),
        (Graph((), (s3,), (), ((0, s3), (0, s3))), "updates slot 0, .*for the second time"),
        (
            Graph((), (s3,), (), ((0, op("exp", s3, meta=f32(4))),)),
            "exp updates slot 0, which holds f32\\[3\\], with f32\\[4\\]",
        ),
        (
            Graph((x3,), (), (op("exp", x3, meta=Meta((3,), dt.float64)),)),
            "%1 exp records f64\\[3\\], but its inputs give f32\\[3\\]",
        ),
        (Graph((x3,), (), (op("cat", x3),)), "%1 cat cannot take its inputs: these do not fit"),
        (Graph((x3,), (), (op("f", x3, meta=f32(-1)),)), "impossible shape, f32\\[-1\\]"),
        (Graph((), (), (op("input", meta=f32(3)),)), "must have no inputs, .* 'position' alone"),
        (
            Graph((), (), (op("const", meta=f32(3), value=(1.0, 2.0)),)),
            "holds 2 values for f32\\[3\\]",
        ),
    ],
)
def test_verify_refuses_what_breaks_a_rule(graph, problem):
    with pytest.raises(GraphError, match=problem):
        g.verify(graph, infer)


def test_a_refusal_shows_the_neighbourhood_and_the_users_line():
    x = argument(0, f32(32, 784))
    w = state(0, f32(128, 784))
    h = op("linear", x, w, meta=f32(32, 10))
    y = op("relu", op("neg", x))
    out = op("relu", h)
    origins = {h.node: Origin("train.py", 12, "encoder.fc1")}
    graph = Graph((x,), (w,), (y, out), origins=origins)

    def rule(op_name, metas, params):
        return (f32(32, 128),) if op_name == "linear" else metas[:1]

    with pytest.raises(GraphError) as caught:
        g.verify(graph, rule)
    assert str(caught.value) == dedent("""\
        %4 linear records f32[32,10], but its inputs give f32[32,128], from train.py:12 encoder.fc1
            %0: f32[32,784] = input(position=0)
            %1: f32[128,784] = state(slot=0)
          > %4: f32[32,10] = linear(%0, %1)
            %5: f32[32,10] = relu(%4)""")
