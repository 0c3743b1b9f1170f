"""Indexing: keys, gather and scatter, masks, positions."""

import numpy as np

from tests.ops.samples import (
    ALL,
    NUMBERS,
    SINGLES,
    Refused,
    Sample,
    indices,
    mask,
    t,
    values,
)

NONE = slice(None)


def at(key, **options):
    """Reading at a key that is the same in both libraries."""
    return Sample(lambda _, x: x[key], t(3, 4, 5), dtypes=ALL, **options)


def stored(_, x, key, value):
    x = x.clone()
    x[key] = value
    return x


def put(key, value, dtypes=ALL, **options):
    """Storing at a key, into a copy."""
    return Sample(
        lambda lib, x, v: stored(lib, x, key, v), t(3, 4, 5), value, dtypes=dtypes, **options
    )


def put_number(key, value):
    return Sample(lambda lib, x: stored(lib, x, key, value), t(3, 4), dtypes=ALL)


READS = [
    *[
        at(key)
        for key in (
            1,
            -3,
            slice(1, None),
            slice(None, None, 2),
            slice(-2, 9),
            slice(3, 1),
            None,
            ...,
            (),
            (0, 1),
            (0, 1, 2),
            (NONE, 2),
            (..., -1),
            (0, ..., slice(1, 3)),
            (None, 1, None, ..., None),
            (slice(0, 2), NONE, slice(1, 5, 3)),
            True,
            False,
            (True, 1),
            (0, True, slice(2)),
            [0, 2],
            [[0, 1], [2, 0]][0],
            [],
            range(2),
            ([0, 2, -1],),
            (NONE, [1, 1, 3]),
            ([0, 1], [1, 3]),
            ([0, 1], NONE, [1, 3]),
            (NONE, [0, 1], [-1, 3]),
            (0, NONE, [1, 2]),
            ([0, 1], 2, NONE),
            (NONE, [0, 1], 2),
            ([0, 1], None, [1, 3]),
            ([[0], [1]], [1, 2]),
            (..., [4, 0]),
            (slice(1), [0, 1], slice(2, 4)),
            [True, False, True],
            (NONE, [True, False, False, True]),
            ([True, False, True], [1, 0]),
            ([0, 2], [True, True, False, False], [1, 2]),
            np.int64(1),
            np.array(2),
            np.array([1, 0]),
            np.array([True, False, True]),
            (np.array([0, 1], np.int32), 1),
        )
    ],
    Sample(lambda _, x, i: x[i], t(3, 4), indices(2, 3, below=3), dtypes=ALL),
    Sample(lambda _, x, i: x[i], t(5), values(2, "int64"), dtypes=ALL),
    Sample(lambda _, x, i: x[:, i], t(3, 4), values([-1, 1], "int32")),
    Sample(lambda _, x, i, j: x[i, j], t(3, 4), indices(2, 1, below=3), indices(3, below=4)),
    Sample(lambda _, x, i, j: x[i, :, j], t(3, 4, 5), indices(2, below=3), indices(2, below=5)),
    Sample(lambda _, x, i: x[i, ..., None, 1:], t(3, 4, 5), indices(2, below=3)),
    Sample(lambda _, x, m: x[m], t(3, 4), mask(3, 4), dtypes=ALL),
    Sample(lambda _, x, m: x[m], t(3, 4, 2), mask(3, 4)),
    Sample(lambda _, x, m: x[:, m], t(3, 4, 2), mask(4, 2)),
    Sample(lambda _, x, m: x[:, m, 1:], t(2, 3, 4, 2), mask(3, 4)),
    Sample(lambda _, x, m, i: x[m, i], t(2, 3, 4), values([[1, 0, 1], [0, 0, 1]], "bool"),
           indices(3, below=4)),
    Sample(lambda _, x, m: x[m], t(3), values(True, "bool")),
    Sample(lambda _, x, m: x[1, m], t(3, 2), values(False, "bool")),
    Sample(lambda _, x: x[None], t()),
    Sample(lambda _, x: x[...], t()),
    Sample(lambda _, x: x[[]], t(0, 2)),
    Sample(lambda lib, x: x[: lib.tensor(2)], t(3)),
]  # fmt: skip


def increased(_, x, i):
    x = x.clone()
    x[i] += 1
    return x


def doubled(_, x, m):
    x = x.clone()
    x[m] *= 2
    return x


def through_views(_, x, v):
    x = x.clone().contiguous()
    x[1:].transpose(0, 1)[0] = v
    x.view(-1)[::7] = 1
    return x


WRITES = [
    *[
        put(key, value)
        for key, value in (
            (0, t(4, 5)),
            (0, t(5)),
            (0, t()),
            (0, t(1, 1, 4, 5)),
            ((0, 1, 2), t()),
            ((0, 1, 2), t(1)),
            (slice(1, None), t(2, 4, 5)),
            ((..., 0), t(4)),
            (..., t(5)),
            ((NONE, None, 1), t(3, 1, 5)),
            (slice(3, 1), t(5)),
            ([0, 2], t(4, 5)),
            ([0, 2], t(2, 1, 5)),
            ([0, 2], t(1, 2, 4, 5)),
            ((NONE, [1, 3]), t(3, 2, 5)),
            (([0, 1], NONE, [1, 3]), t(2, 4)),
            ((0, NONE, [1, 2]), t(4, 2)),
            (([[0], [1]], [1, 2]), t(2, 2, 5)),
            ([], t(4, 5)),
            ([True, False, True], t(2, 4, 5)),
            ((NONE, [True, False, False, True]), t(5)),
            ((slice(1, None), [True, False, False, True], 0), t(2, 2)),
            (True, t(4, 5)),
            (False, t(4, 5)),
            (np.array([2, 0]), t()),
        )
    ],
    *[
        put_number(key, value)
        for key in (0, (NONE, 1), [0, 2], [True, False, True])
        for value in (3, 2.75, True)
    ],
    put(0, t(5, dtype="float64"), dtypes=NUMBERS),
    put([0, 1], t(5, dtype="float64"), dtypes=SINGLES, parity=False),
    Sample(increased, t(3, 2), values([0, 2], "int64"), dtypes=NUMBERS),
    Sample(doubled, t(3, 4), mask(3, 4), dtypes=NUMBERS),
    Sample(doubled, t(3, 4), mask(3), dtypes=NUMBERS),
    Sample(through_views, t(3, 4), t(2)),
    Sample("index_put", t(3, 4), (values([2, 0], "int64"),), t(2, 4)),
    Sample("index_put", t(3, 4), (indices(3, below=3), indices(3, below=4)), t(3), accumulate=True),
    Sample("Tensor.index_put_", t(3, 4), (values([1, 1], "int64"),), t(4), True, dtypes=NUMBERS),
    Sample("Tensor.index_put_", t(3, 4), (mask(3, 4),), t()),
    Sample("index_put", t(3, 4), (mask(3, 4),), t(), accumulate=True),
    Sample("index_put", t(3, 4), (values(1, "int64"),), t(4), accumulate=True),
]

SELECTS = [
    Sample("index_select", t(3, 4), 0, indices(5, below=3), dtypes=ALL),
    Sample("index_select", t(3, 4), -1, values([1], "int32")),
    Sample("index_select", t(3, 4), 1, indices(0, below=4)),
    Sample("index_select", t(3, 4), 1, values(2, "int64")),
    Sample("index_select", t(), 0, values([0], "int64")),
    Sample("index_select", t(3, 4, grad=False), 0, indices(2, below=3), out=t(2, 4, grad=False)),
    Sample("index_add", t(3, 4), 0, values([0, 2, 0], "int64"), t(3, 4), dtypes=NUMBERS),
    Sample("index_add", t(3, 4), 1, indices(2, below=4), t(3, 2), alpha=-2),
    Sample("Tensor.index_add_", t(4), 0, values([1, 1, 1], "int64"), t(3)),
    Sample("index_add", t(), 0, values([0], "int64"), t()),
    Sample("index_copy", t(3, 4), 0, values([2, 0], "int64"), t(2, 4), dtypes=ALL),
    Sample("Tensor.index_copy_", t(3, 4), 1, values([3], "int64"), t(3, 1)),
    Sample("index_fill", t(3, 4), 0, values([2, -3], "int64"), 2, dtypes=NUMBERS),
    Sample("index_fill", t(3, 4), 1, values([2], "int64"), t()),
    Sample("Tensor.index_fill_", t(3, 4), 1, values([0, 1], "int64"), -1.5),
    Sample("take", t(3, 4), values([[0, -1], [5, 5]], "int64"), dtypes=ALL),
    Sample("take_along_dim", t(3, 4), indices(3, 2, below=4), 1, dtypes=ALL),
    Sample("take_along_dim", t(3, 4), indices(1, 4, below=3), dim=0),
    Sample("take_along_dim", t(1, 4), indices(3, 2, below=4), 1),
    Sample("take_along_dim", t(3, 4), values([[-1]], "int64"), 1),
    Sample(
        lambda lib, x, i: lib.take_along_dim(x.contiguous(), i), t(3, 4), values([11, 0], "int64")
    ),
]

SCATTERS = [
    Sample("gather", t(3, 4), 1, indices(3, 2, below=4), dtypes=ALL),
    Sample("gather", t(3, 4), 0, indices(5, 3, below=3)),
    Sample("gather", t(2, 3, 4), -2, indices(2, 1, 3, below=3)),
    Sample("gather", t(3), 0, values(2, "int64")),
    Sample("gather", t(), 0, values([0, 0], "int64")),
    Sample("gather", t(3, 4), 1, indices(0, below=4)),
    Sample("gather", t(3, 4), 1, values([[1], [0]], "int32"), sparse_grad=False),
    Sample("scatter_add", t(3, 4), 1, indices(3, 5, below=4), t(3, 5), dtypes=NUMBERS),
    Sample("Tensor.scatter_add_", t(3, 4), 0, indices(2, 3, below=3), t(2, 3)),
    Sample("scatter_add", t(), 0, values([0, 0], "int64"), t(2)),
    Sample("scatter_add", t(3, 4), 1, indices(0, below=4), t(2, 5, grad=False)),
    Sample("scatter", t(3, 4), 1, values([[0, 2], [3, 1]], "int64"), t(2, 2), dtypes=ALL),
    Sample("scatter", t(3, 4), 0, values([[0, 2, 1, 1]], "int64"), 2, dtypes=ALL),
    Sample("scatter", t(3, 4), 0, values([[0, 2]], "int64"), value=2.5),
    Sample("Tensor.scatter_", t(3, 4), 0, values([[0, 2]], "int64"), 1.0),
    Sample("Tensor.scatter_", t(3, 4), 0, values([[0], [1]], "int64"), src=t(2, 1)),
    Sample("scatter", t(), 0, values(0, "int64"), t()),
    Sample("scatter", t(3, 4, grad=False), 1, indices(3, 2, below=4), t(3, 2, grad=False),
           reduce="add"),
    Sample("scatter", t(3, 4, grad=False), 1, indices(3, 2, below=4), t(3, 2, grad=False),
           reduce="multiply"),
    Sample("Tensor.scatter_", t(3, 4, grad=False), 1, indices(3, 2, below=4), 2, reduce="multiply"),
    *[
        Sample("scatter_reduce", t(3, 4), 1, indices(3, 6, below=4), t(3, 6), reduce,
               include_self=include_self, dtypes=NUMBERS)
        for reduce in ("sum", "mean", "amax", "amin")
        for include_self in (True, False)
    ],
    *[
        Sample("scatter_reduce", t(3, 4, grad=False), 0, indices(5, 2, below=3),
               t(5, 2, grad=False), "prod", include_self=include_self, dtypes=NUMBERS)
        for include_self in (True, False)
    ],
    Sample("Tensor.scatter_reduce_", values([1, 2, 2]), 0, values([0, 0, 1, 2], "int64"),
           values([1, 1, 2, 5]), "amax", smooth=False),
]  # fmt: skip

MASKS = [
    Sample("nonzero", values([[0, 1, 2], [3, 0, 0]]), dtypes=ALL),
    Sample("nonzero", values([[0, 1, 2], [3, 0, 0]]), as_tuple=True),
    Sample("nonzero", t()),
    Sample("nonzero", values(2.0), as_tuple=True),
    Sample("nonzero", t(0, 3)),
    Sample("Tensor.nonzero", mask(3, 2)),
    Sample("argwhere", values([[0, 1], [1, 1]]), dtypes=ALL),
    Sample("argwhere", values(1)),
    Sample("where", mask(3, 2)),
    Sample("masked_select", t(3, 4), mask(3, 4), dtypes=ALL),
    Sample("masked_select", t(3, 1), mask(4)),
    Sample("Tensor.masked_select", t(), mask(3)),
    Sample("masked_scatter", t(3, 4), mask(3, 4), t(12), dtypes=ALL),
    Sample("Tensor.masked_scatter_", t(3, 4), mask(4), t(13)),
    Sample("nn.functional.one_hot", values([0, 2, 1], "int64")),
    Sample("nn.functional.one_hot", values([[0, 2], [1, 1]], "int64"), 4),
    Sample("nn.functional.one_hot", indices(0, below=2), num_classes=3),
    Sample("nn.functional.one_hot", values(1, "int64"), 3),
]

SAMPLES = [*READS, *WRITES, *SELECTS, *SCATTERS, *MASKS]


def key(k, **options):
    return Refused(lambda _, x: x[k], t(2, 3, 4), **({"error": IndexError} | options))


def no_put(k, value, **options):
    return Refused(lambda lib, x, v: stored(lib, x, k, v), t(2, 3, 4), value, **options)


REFUSED = [
    key(2, match="index 2 is out of bounds for dimension 0 with size 2"),
    key((0, -4), match="index -4 is out of bounds for dimension 1 with size 3"),
    key((NONE, NONE, 7), match="dimension 2 with size 4"),
    key([0, 5], match="index 5 is out of bounds for dimension 0 with size 2"),
    key((NONE, [0, -4]), match="index -4 is out of bounds for dimension 1 with size 3"),
    key((0, 0, 0, 0), match="too many indices for tensor of dimension 3"),
    key((..., 0, 0, 0, 0), match="too many indices for tensor of dimension 3"),
    key(([0], [0], [0], [0]), match="too many indices"),
    key((..., ...), match="single ellipsis", parity=False),
    key(slice(None, None, -1), error=ValueError, match="step must be greater than zero"),
    key(slice(None, None, 0), error=ValueError, match="step"),
    key(1.0, match="only integers"),
    key("a", match="only integers", parity=False),
    key(([0, 1], [0, 1, 2]), match="could not be broadcast together"),
    key([True, False, True], match="mask"),
    key([[0, 1], [0]], match="arrays and lists", parity=False),
    key([0.5], match="arrays and lists", parity=False),
    Refused(lambda _, x: x[0], t(), error=IndexError, match="dimension 0"),
    Refused(lambda _, x, i: x[i], t(3), t(2), error=IndexError, match="int64, int32 or bool"),
    Refused(lambda _, x, i: x[i], t(3), values([0, 1], "uint8"), error=IndexError, match="uint8"),
    Refused(lambda _, x, m: x[m], t(3, 4), mask(4, 3), error=IndexError, match="mask"),
    no_put(0, t(2, 4), match="cannot expand"),
    no_put(0, t(2, 3, 4), match="cannot expand"),
    no_put([0, 1], t(3, 3, 4), match="cannot be broadcast to indexing result"),
    no_put([True, False], t(3, 3, 4), match="cannot be broadcast to indexing result"),
    Refused(lambda _, x: x.requires_grad_().__setitem__(0, 1), t(3), match="leaf Variable"),
    Refused(lambda _, x: x.requires_grad_().__setitem__([0, 1], 1), t(3), match="leaf Variable"),
    Refused(lambda _, x: x.expand(3, 2).__setitem__(slice(2), 1), t(2), match="single memory"),
    Refused(lambda _, x: x.expand(3, 2).__setitem__([0, 1], 1), t(2), match="single memory",
            parity=False),
    Refused("index_put", t(3), (indices(2, below=3),), t(2, dtype="float64"), match="dtypes match"),
    Refused("index_put", t(3), 0, t(2), error=TypeError, match="tuple of tensors"),
    Refused("index_select", t(3), 0, values([3], "int64"), error=IndexError, match="bounds"),
    Refused("index_select", t(3), 0, values([-1], "int64"), error=IndexError, match="index -1"),
    Refused("index_select", t(3), 0, indices(1, 1, below=1), error=IndexError, match="vector"),
    Refused("index_select", t(3), 0, t(2), match="int32/int64"),
    Refused("index_add", t(3, 2), 0, indices(1, below=3), t(1, 3), match="must have shape"),
    Refused("index_add", t(3), 0, indices(1, below=3), t(1, dtype="float64"), match="scalar type"),
    Refused("index_add", t(3), 0, values([-1], "int64"), t(1), error=Exception, match="index -1"),
    Refused("index_copy", t(3, 2), 0, indices(2, below=3), t(1, 2), error=Exception, match="shape"),
    Refused("index_fill", t(3), 0, indices(1, below=3), t(1), match="0-dimensional"),
    Refused("index_fill", t(3), 0, values([3], "int64"), 1, error=IndexError, match="bounds"),
    Refused("take", t(3), values([3], "int64"), error=IndexError, match="bounds"),
    Refused("take_along_dim", t(3, 2), indices(2, below=2), 0, match="number of dimensions"),
    Refused("gather", t(3, 4), 1, values([[4]], "int64"), error=Exception, match="size 4"),
    Refused("gather", t(3, 4), 1, values([[-1]], "int64"), error=Exception, match="index -1"),
    Refused("gather", t(3, 4), 1, indices(2, below=3), match="same number of dimensions"),
    Refused("gather", t(3, 4), 1, indices(4, 1, below=3), match="no larger than self"),
    Refused("gather", t(3, 4), 1, values([[1]], "int16"), match="int32/int64"),
    Refused("gather", t(3, 4), 2, indices(3, 1, below=3), error=IndexError, match="out of range"),
    Refused("scatter_add", t(3), 0, indices(2, below=3), t(1), match="no larger"),
    Refused("scatter_add", t(3), 0, indices(1, below=3), t(1, dtype="float64"), match="src.dtype"),
    Refused("scatter", t(3), 0, values([3], "int64"), 1.0, error=Exception, match="bounds"),
    Refused("scatter", t(3), 0, indices(1, below=3), error=TypeError, match="src"),
    Refused("scatter", t(3), 0, indices(1, below=3), t(1), reduce="max", error=Exception,
            match="add or multiply"),
    Refused("scatter_reduce", t(3), 0, indices(1, below=3), t(1), "median", error=Exception,
            match="sum, prod, mean"),
    Refused("masked_select", t(3), t(3), match="BoolTensor"),
    Refused("masked_scatter", t(3), values([1, 1, 1], "bool"), t(2), match="only 2 elements"),
    Refused("masked_scatter", t(3), mask(3), t(3, dtype="float64"), match="same dtypes"),
    Refused("nn.functional.one_hot", values([0, -1], "int64"), 2, match="non-negative"),
    Refused("nn.functional.one_hot", values([0, 2], "int64"), 2, match="smaller than num_classes"),
    Refused("nn.functional.one_hot", t(2), 2, match="LongTensor"),
    Refused("nn.functional.one_hot", indices(0, below=1), match="give num_classes"),
    Refused("nn.functional.one_hot", indices(1, below=1), 0, match="positive"),
]  # fmt: skip
