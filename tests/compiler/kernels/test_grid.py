import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Kernel, packed
from ganglion.compiler.kernels.grid import Axis, Grid, cut
from ganglion.compiler.text import const
from tests.compiler.kernels.harness import run

AXES = st.builds(Axis, st.integers(1, 30), st.integers(1, 12))
SMALL_AXES = st.builds(Axis, st.integers(1, 12), st.integers(1, 4))


@given(st.lists(AXES, min_size=1, max_size=3), st.integers(0, 40))
def test_a_box_is_cut_into_as_many_blocks_as_wanted_and_has_tiles(axes, tasks):
    blocks = [axis.blocks for axis in cut(axes, tasks)]
    tiles = [axis.tiles for axis in axes]
    assert all(1 <= b <= t for b, t in zip(blocks, tiles, strict=True))
    assert np.prod(blocks) >= min(tasks, np.prod(tiles))


@settings(max_examples=30, deadline=None)
@given(
    axes=st.lists(SMALL_AXES, min_size=2, max_size=3), tasks=st.integers(1, 12),
    reverse=st.booleans(), threads=st.sampled_from([1, 3]),
)  # fmt: skip
def test_every_element_is_visited_once(axes, tasks, reverse, threads):
    order = tuple(reversed(range(len(axes)))) if reverse else ()
    grid = Grid(cut(axes, tasks), order)
    layout = packed(dt.int64, tuple(axis.size for axis in axes))

    def emit(code, pointers, scratch, low, high):
        def visit(spot):
            start = code.dot(spot.starts(code, grid.axes), layout.strides)
            for within in np.ndindex(*spot.sizes):
                place = code.at_index(
                    pointers[0], code.add(start, int(np.dot(within, layout.strides))), "i64"
                )
                code.store(code.op("add", code.load(place, "i64"), const(1, "i64")), place)

        grid.emit(code, low, high, visit)

    kernel = Kernel("visit", grid, emit, (layout,), (0,), (0,), grid.tasks)
    (visits,) = run(kernel, (np.zeros(layout.shape, np.int64),), threads)
    np.testing.assert_array_equal(visits, 1)
