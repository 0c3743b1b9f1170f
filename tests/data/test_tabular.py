import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganglion.data.table import from_columns
from ganglion.data.tabular import TablePreprocessor, class_name, drop_missing_target, infer_task
from ganglion.errors import ArgumentError, DataError

N = 40
ROWS = np.arange(N)


def table(name="data.csv", **columns):
    return from_columns(columns, name)


def fit(columns, target="y", **options):
    return TablePreprocessor.fit(table(**columns), target, **options)


def some(**columns):
    return {"x": (ROWS % 7).tolist(), "y": ["a", "b"] * (N // 2), **columns}


def encoded(columns, **options):
    return fit(columns, **options).encode(table(**columns))


# --- features -----------------------------------------------------------------------------------


def test_numbers_are_standardised_with_the_training_rows():
    values = np.random.default_rng(0).normal(5, 3, N)
    preprocessor = fit(some(x=values.tolist()), rows=range(30))
    x = preprocessor.encode(table(**some(x=values.tolist()))).x
    expected = (values - values[:30].mean()) / values[:30].std()
    assert x.dtype == np.float32
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-6)


def test_categories_become_columns_of_0_and_1():
    columns = some(x=["red", "green", "blue", "red"] * (N // 4))
    assert fit(columns).feature_names == ["x=blue", "x=green", "x=red"]
    x = encoded(columns).x
    assert x[:4].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


def test_a_missing_number_is_the_median_and_marked():
    values = [1.0, 2.0, 9.0, None] * (N // 4)
    result = encoded(some(x=values))
    filled = np.array([1, 2, 9, 2] * (N // 4))
    np.testing.assert_allclose(result.x[:, 0], (filled - filled.mean()) / filled.std(), rtol=1e-6)
    assert result.x[:, 1].tolist() == [0, 0, 0, 1] * (N // 4)
    assert result.filled == {"x": N // 4}
    assert fit(some(x=values)).feature_names == ["x", "x is missing"]


def test_a_number_missing_only_later_is_filled_and_counted():
    preprocessor = fit({**some(), "z": (ROWS % 5).tolist()})
    result = preprocessor.encode(table(x=[1, None], z=[0, 1]))
    assert result.x.shape == (2, 2)
    assert result.x[1, 0] == pytest.approx((3 - (ROWS % 7).mean()) / (ROWS % 7).std())
    assert result.filled == {"x": 1}


def test_a_missing_category_is_a_category():
    columns = some(x=["red", None] * (N // 2))
    assert fit(columns).feature_names == ["x=missing", "x=red"]
    assert encoded(columns).x[:2].tolist() == [[0, 1], [1, 0]]


def test_unseen_categories_are_all_zero_and_counted():
    preprocessor = fit(some(x=["red", "blue"] * (N // 2)))
    result = preprocessor.encode(table(x=["green", "red", "pink", None]))
    assert result.x.tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert result.unseen == {"x": 2}
    assert result.filled == {"x": 1}


@pytest.mark.parametrize(("yes", "no"), [("True", "false"), ("Yes", "no"), ("t", "F")])
def test_booleans_are_one_column(yes, no):
    x = encoded(some(x=[yes, no] * (N // 2))).x
    assert x[:2].tolist() == [[1], [-1]]


def test_dates_become_days_and_a_warning_says_so():
    dates = [f"2024-01-{1 + i % 28:02}" for i in range(N)]
    with pytest.warns(UserWarning, match="days since 1970: x"):
        preprocessor = fit(some(x=dates))
    a, b, c = preprocessor.encode(
        table(x=["2024-01-01", "2024-01-02T12:00:00", "2024-01-02T14:00:00+02:00"])
    ).x[:, 0]
    assert (b - a) * preprocessor.columns[0].std == pytest.approx(1.5, abs=1e-3)
    assert b == c


@pytest.mark.parametrize(
    ("name", "cells", "reason"),
    [
        ("c", ["same"] * N, "all cells are 'same'"),
        ("c", [""] * N, "all cells are empty"),
        ("customer_id", list(range(1000, 1000 + N)), "it numbers the rows"),
        ("PassengerId", list(range(N)), "it numbers the rows"),
        ("unnamed_1", list(range(N)), "it numbers the rows"),
        ("note", [f"text {i}" for i in range(N)], "it has 40 different values in 40 rows"),
    ],
)
def test_useless_columns_are_left_out_with_a_warning(name, cells, reason):
    with pytest.warns(UserWarning, match=rf"Columns left out: '{name}' \({reason}\)"):
        preprocessor = fit(some(**{name: cells}))
    assert preprocessor.dropped == {name: reason}
    assert preprocessor.feature_names == ["x"]
    assert preprocessor.encode(table(x=[1])).x.shape == (1, 1)  # nor is it needed later


def test_all_different_numbers_are_no_row_numbers_by_themselves():
    assert fit(some(month=ROWS.tolist())).feature_names == ["x", "month"]
    assert fit(some(valid=ROWS.tolist())).feature_names == ["x", "valid"]


def test_kinds_can_be_chosen():
    columns = some(zip=[10000 + i % 3 for i in ROWS], note=[f"text {i}" for i in ROWS])
    kinds = {"zip": "category", "note": "drop"}
    with pytest.warns(UserWarning, match=r"'note' \(you asked\)"):
        names = fit(columns, kinds=kinds).feature_names
    assert names == ["x", "zip=10000", "zip=10001", "zip=10002"]


def test_the_limit_of_categories_can_be_chosen():
    columns = some(x=[f"town {i % 12}" for i in ROWS])
    assert len(fit(columns).feature_names) == 12
    with pytest.raises(DataError, match=r"No column beside the target 'y' .*12 different"):
        fit(columns, max_categories=11)


# --- what is refused ----------------------------------------------------------------------------


def test_typing_errors_among_numbers_are_named():
    cells = [str(i) for i in ROWS]
    cells[7] = "1o"
    with pytest.raises(DataError, match=r"Column 'x' of data.csv .* 1 of 40 .*'1o' in line 8"):
        fit(some(x=cells))


def test_infinity_is_no_number():
    with pytest.raises(DataError, match="'inf' in line 1"):
        fit(some(x=["inf", *map(str, ROWS[1:])]))


def test_a_bad_number_later_is_named():
    with pytest.raises(DataError, match=r"Column 'x' of new.csv .*'many' in line 2"):
        fit(some()).encode(table("new.csv", x=["1", "many"]))


def test_a_missing_column_later_is_named():
    with pytest.raises(DataError, match=r"new.csv lacks 1 of the 1 .*: x. It has: z"):
        fit(some()).encode(table("new.csv", z=[1]))


def test_a_missing_target_column_suggests_names():
    with pytest.raises(DataError, match=r"no column 'Y'. Did you mean 'y'"):
        fit(some(), target="Y")


def test_options_must_name_columns_and_kinds():
    with pytest.raises(DataError, match="no column 'zip'"):
        fit(some(), kinds={"zip": "drop"})
    with pytest.raises(ArgumentError, match=r"must be one of .*'category'.*got 'text'"):
        fit(some(), kinds={"x": "text"})


def test_a_table_of_nothing_but_the_target_is_refused():
    with pytest.raises(DataError, match="No column beside the target 'y'"):
        fit({"y": ["a", "b"] * 20})


# --- target -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "task"),
    [
        (["a", "b"] * 20, "classification"),
        (["0", "1"] * 20, "classification"),
        (["1.0", "2.0", "3.0", "2"] * 10, "classification"),
        ([str(i) for i in range(40)], "regression"),
        (["0.5", "1.5"] * 20, "regression"),
        (["yes", "no"] * 20, "classification"),
    ],
)
def test_the_task_is_inferred(cells, task):
    assert infer_task(cells) == task


def test_classes_are_numbered_in_order():
    columns = some(y=["10", "9", "9.0", "10"] * (N // 4))
    target = fit(columns).target
    assert target.classes == ("9", "10")
    y = target.encode(table(**columns))
    assert y.dtype == np.int64
    assert y[:4].tolist() == [1, 0, 0, 1]
    assert target.decode(np.array([[0.1, 0.9], [3.0, -1.0]])) == ["10", "9"]


def test_a_regression_target_is_standardised_and_back():
    y = np.random.default_rng(0).normal(200, 50, N)
    target = fit(some(y=y.tolist())).target
    assert target.task == "regression"
    encoded = target.encode(table(y=y.tolist()))
    assert encoded.shape == (N, 1)
    assert encoded.dtype == np.float32
    assert abs(encoded.mean()) < 1e-6
    assert encoded.std() == pytest.approx(1)
    np.testing.assert_allclose(target.decode(encoded), y, rtol=1e-6)


def test_the_task_can_be_chosen():
    columns = some(y=(ROWS % 3).tolist())
    assert fit(columns).target.task == "classification"
    assert fit(columns, task="regression").target.task == "regression"
    with pytest.raises(DataError, match=r"Column 'y' .*'a' in line 1"):
        fit(some(), task="regression")


def test_classes_outside_the_training_rows_are_known():
    columns = some(y=["a", "b"] * 15 + ["c"] * 10)
    assert fit(columns, rows=range(30)).target.classes == ("a", "b", "c")


@pytest.mark.parametrize("y", [["a"] * N, [3.5] * N])
def test_a_constant_target_is_refused(y):
    with pytest.raises(DataError, match=r"the target, is .* in every row"):
        fit(some(y=y))


def test_a_target_that_differs_in_every_row_is_no_class():
    with pytest.raises(DataError, match="40 different values in 40 rows, too many for classes"):
        fit(some(y=[f"text {i}" for i in ROWS]))


def test_an_unknown_class_later_is_named():
    with pytest.raises(DataError, match=r"new.csv, line 2, column 'y' is 'q'; .* classes a, b"):
        fit(some()).target.encode(table("new.csv", y=["a", "q"]))


def test_rows_without_target_are_dropped_and_counted():
    kept, dropped = drop_missing_target(table(x=[1, 2, 3], y=["a", None, "?"]), "y")
    assert (dropped, kept["x"], kept.lines) == (2, ["1"], [1])
    with pytest.raises(DataError, match="the target, is empty in every row"):
        drop_missing_target(table(y=["", ""]), "y")
    with pytest.raises(DataError, match="line 2, column 'y' is empty"):
        fit({"x": [1, 2], "y": ["a", ""]})


@pytest.mark.parametrize(
    ("cell", "name"),
    [("1", "1"), ("1.0", "1"), ("01", "1"), ("1.50", "1.5"), ("a", "a"), ("1_0", "1_0")],
)
def test_numbers_that_are_equal_are_one_class(cell, name):
    assert class_name(cell) == name


# --- any table ----------------------------------------------------------------------------------

number = st.floats(-1e6, 1e6).map(repr)
word = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
cell = st.one_of(
    st.just(""), number, st.sampled_from(["red", "blue", "yes", "no", "2024-05-01"]), word
)
column = st.one_of(
    st.lists(st.one_of(number, st.just("")), min_size=30, max_size=30),
    st.lists(st.sampled_from(["red", "blue", ""]), min_size=30, max_size=30),
    st.lists(cell, min_size=30, max_size=30),
)
target = st.one_of(
    st.lists(st.sampled_from("abc"), min_size=30, max_size=30),
    st.lists(number, min_size=30, max_size=30),
)


@given(st.dictionaries(st.sampled_from("defgh"), column, min_size=1), target)
def test_any_table_survives_json_or_is_refused_with_a_reason(columns, y):
    data = from_columns({**columns, "y": y}, "data.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            preprocessor = TablePreprocessor.fit(data, "y", rows=range(20))
        except DataError:  # no column of use, or typing errors among numbers
            return
    saved = preprocessor.to_dict()
    assert json.loads(json.dumps(saved, allow_nan=False)) == saved
    copy = TablePreprocessor.from_dict(saved)
    assert copy == preprocessor
    try:
        x = preprocessor.encode(data).x
    except DataError:  # a cell of the later rows that is not of its column's kind
        return
    assert np.isfinite(x).all()
    assert x.shape == (30, len(preprocessor.feature_names))
    np.testing.assert_array_equal(copy.encode(data).x, x)
    np.testing.assert_array_equal(copy.target.encode(data), preprocessor.target.encode(data))
