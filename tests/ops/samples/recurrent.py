"""Recurrent layers and cells, with all their options."""

from tests.ops.samples import FLOATS, SINGLES, Refused, Sample, t

I, H, P = 3, 4, 2  # noqa: E741 - sizes of inputs, hidden states and projections
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def small(*shape):
    return t(*shape, low=-0.8, high=0.8)


def weights(name, layers=1, both=False, bias=True, projected=False):
    """The flat list of weights."""
    rows, out = GATES[name] * H, P if projected else H
    found = []
    for layer in range(layers):
        for _ in range(2 if both else 1):
            size = out * (2 if both else 1) if layer else I
            found += [small(rows, size), small(rows, out)]
            found += [small(rows), small(rows)] if bias else []
            found += [small(P, H)] if projected else []
    return found


def stack(name, steps=3, batch=2, *, layers=1, both=False, bias=True, projected=False,
          batch_first=False, dropout=0.0, train=False, **options):  # fmt: skip
    """A sample of a whole stack."""
    x = t(batch, steps, I) if batch_first else t(steps, batch, I)
    n = layers * (2 if both else 1)
    h = t(n, batch, P if projected else H)
    hx = (h, t(n, batch, H)) if name == "lstm" else h
    params = weights(name, layers, both, bias, projected)
    options = {"dtypes": SINGLES, **options}
    return Sample(name, x, hx, params, bias, layers, dropout, train, both, batch_first, **options)


def cell(name, bias=True, **options):
    """A sample of one step."""
    hx = (t(2, H), t(2, H)) if name == "lstm" else t(2, H)
    return Sample(f"{name}_cell", t(2, I), hx, *weights(name, bias=bias), **options)


def last(lib, name, *inputs):
    """The final states alone: no gradient of the output arrives."""
    return getattr(lib, name)(*inputs)[1:]


def alone(name, reverse, *inputs, out=None, bias=True, **params):
    """The record itself, with gradients of every output."""

    def call(lib, *tensors):
        found = lib.ops.record.OPS[f"{name}_layer"](*tensors, reverse=reverse, **params)
        return found if out is None else found[out]

    biases = (small(GATES_OF[name] * H), small(GATES_OF[name] * H)) if bias else (None, None)
    matrices = small(GATES_OF[name] * H, I), small(GATES_OF[name] * H, inputs[0].shape[-1])
    return Sample(call, t(3, 2, I), *inputs, *matrices, *biases,
                  *((small(P, H) if inputs[0].shape[-1] == P else None,) if name == "lstm" else ()),
                  dtypes=("float64",), parity=False)  # fmt: skip


GATES_OF = {"lstm": 4, "gru": 3, "rnn": 1}

SAMPLES = [
    *(
        sample
        for name in GATES
        for sample in (
            stack(name, dtypes=FLOATS, tolerance=2),
            stack(name, steps=1),
            stack(name, batch=1, bias=False),
            stack(name, layers=2),
            stack(name, both=True),
            stack(name, layers=2, both=True, bias=False, batch_first=True),
            stack(name, layers=2, dropout=0.5, train=True, parity=False, smooth=False),
            cell(name, dtypes=FLOATS, tolerance=2),
            cell(name, bias=False, dtypes=SINGLES),
        )
    ),
    stack("lstm", projected=True),
    stack("lstm", projected=True, bias=False, layers=2, both=True),
    Sample(
        last, "lstm", t(3, 2, I), (t(1, 2, H), t(1, 2, H)), weights("lstm"),
        True, 1, 0.0, False, False, False, dtypes=SINGLES,
    ),
    Sample(
        last, "gru", t(3, 2, I), t(2, 2, H), weights("gru", both=True),
        True, 1, 0.0, False, True, False, dtypes=SINGLES,
    ),
    *(
        sample
        for reverse in (False, True)
        for sample in (
            alone("lstm", reverse, t(2, H), t(2, H)),
            alone("lstm", reverse, t(2, P), t(2, H)),
            alone("lstm", reverse, t(2, H), t(2, H), out=2, bias=False),
            alone("gru", reverse, t(2, H)),
            alone("gru", reverse, t(2, H), out=1, bias=False),
            alone("rnn", reverse, t(2, H), nonlinearity="tanh"),
        )
    ),
]  # fmt: skip


def refused(name, x, h, params, *, biases=True, layers=1, **options):
    return Refused(name, x, h, params, biases, layers, 0.0, False, False, False, **options)


W = [small(4 * H, I), small(4 * H, H), small(4 * H), small(4 * H)]
STATE = (t(1, 2, H), t(1, 2, H))

REFUSED = [
    refused("lstm", t(0, 2, I), STATE, W, match="larger than 0"),
    refused("lstm", t(3, 2, 5), STATE, W, match=r"w_ih has shape \(16, 5\)", parity=False),
    refused("lstm", t(3, 2, I), (t(1, 3, H), t(1, 3, H)), W, match=r"h has shape \(2, 4\)",
            parity=False),
    refused("lstm", t(3, 2, I), (t(1, 2, H), t(1, 2, 5)), W, match=r"c has shape \(2, 4\)"),
    refused("lstm", t(3, 2, I), (t(1, 2, H), t(1, 2, H, dtype="float64")), W, match="dtype"),
    refused("gru", t(3, 2, I), t(1, 2, H), weights("gru")[:2], match="2 weights", error=Exception),
    refused("rnn_tanh", t(2, I), t(1, 2, H), weights("rnn_tanh"), match="3-D", parity=False),
    refused("rnn_relu", t(3, 2, I), t(2, H), weights("rnn_relu"), match="layer and direction",
            parity=False),
]  # fmt: skip
