import pytest

import ganglion.dtypes as dt
from ganglion.compiler.kernel import Layout, packed
from ganglion.compiler.kernels.choice import choose, chunks, pose
from ganglion.compiler.kernels.tile import AVX2, AVX512


def problem(m, n, k, turned="", batch=()):
    def layout(rows, columns, turn):
        if not turn:
            return packed(dt.float32, (*batch, rows, columns))
        *steps, s, t = packed(dt.float32, (*batch, columns, rows)).strides
        return Layout(dt.float32, (*batch, rows, columns), (*steps, t, s))

    return pose(layout(m, k, "a" in turned), layout(k, n, "b" in turned), (*batch, m, n))


def test_neighbours_in_a_row_need_no_packing():
    choice = choose(problem(32, 128, 784))
    assert not any((choice.pack_left, choice.pack_right, choice.dotted, choice.flip))


def test_what_lies_pages_apart_is_packed():
    choice = choose(problem(1024, 1024, 1024, "a"))
    assert (choice.pack_left, choice.pack_right) == (True, True)


def test_what_is_read_once_is_not_packed():
    assert not choose(problem(1, 4096, 4096)).pack_right


def test_few_rows_of_a_transposed_matrix_run_along_k():
    assert choose(problem(4, 512, 512, "b")).dotted
    assert not choose(problem(1024, 384, 128, "b")).dotted


def test_a_narrow_result_has_lanes_along_its_rows():
    assert choose(problem(1000, 1, 3, "a")).flip


def test_few_rows_compete_for_a_place_in_the_cache():
    assert choose(problem(1024, 1024, 1024)).height <= 8


@pytest.mark.parametrize("size", [(32, 128, 784), (1000, 10, 512), (7, 5, 3), (1, 64, 64)])
@pytest.mark.parametrize("turned", ["", "a", "b", "ab"])
def test_lanes_run_the_same_way_whatever_the_registers(size, turned):
    given = problem(*size, turned)
    wide, narrow = choose(given, AVX512), choose(given, AVX2)
    assert wide.dotted == narrow.dotted
    vectors = -(-narrow.width // given.lanes)
    assert narrow.dotted or narrow.height * vectors <= AVX2.sums


@pytest.mark.parametrize("batch", [(), (3,)])
def test_long_sums_are_cut_evenly_where_that_is_possible(batch):
    count, length = chunks(problem(10, 10, 48_000, batch=batch))
    assert count > 1
    assert count * length == 48_000


@pytest.mark.parametrize("size", [(32, 128, 784), (1024, 384, 2048), (2, 2, 200)])
def test_other_sums_stay_whole(size):
    assert chunks(problem(*size)) == (1, size[-1])


def test_partial_results_stay_small():
    count, _ = chunks(problem(400, 300, 1_000_000))
    assert count * 400 * 300 <= 1 << 22
