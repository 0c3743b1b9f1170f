import gzip

import numpy as np
import pytest

from ganglion.data.table import Table, from_columns, from_frame, read_csv
from ganglion.errors import DataError, NotFoundError


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_columns_and_lines(write):
    table = read_csv(write("a,b\n1,x\n\n2, y \n"))
    assert {name: list(cells) for name, cells in table.columns.items()} == {
        "a": ["1", "2"],
        "b": ["x", "y"],
    }
    assert table.lines == [2, 4]
    assert len(table) == 2


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write, delimiter):
    table = read_csv(write(f"a{delimiter}b\n1{delimiter}2\n"))
    assert list(table.columns) == ["a", "b"]


def test_quoted_cells_may_hold_delimiters_and_line_breaks(write):
    table = read_csv(write('name,text\r\n"Lee, Ann","two\nlines\x0b"\r\nBob,"say ""hi"""\r\n'))
    assert list(table["name"]) == ["Lee, Ann", "Bob"]
    assert list(table["text"]) == ["two\nlines", 'say "hi"']
    assert table.lines == [3, 4]


def test_missing_cells_have_many_spellings(write):
    cells = ["", " ", "?", "NA", "n/a", "NaN", "null", "None", "<NA>"]
    table = read_csv(write("a,b\n" + "".join(f"{cell},1\n" for cell in cells)))
    assert list(table["a"]) == [""] * len(cells)


def test_gzip_and_byte_order_mark(write):
    table = read_csv(write(gzip.compress("\ufeffa,b\n1,ä\n".encode()), "data.csv.gz"))
    assert list(table.columns) == ["a", "b"]
    assert list(table["b"]) == ["ä"]


def test_a_column_without_a_name_gets_one(write):
    assert list(read_csv(write(",b\n0,1\n")).columns) == ["unnamed_1", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "column names but no rows"),
        ("a,b,a\n1,2,3\n", "more than one column named a"),
        ("a,b\n1,2\n1,2,3\n1\n", "line 3 has 3 cells; the header has 2. 2 such lines"),
        ("1.5,2,3\n1,2,3\n", "begins with numbers"),
        (b"a,b\n\xff\xfe,1\n", "not UTF-8 text: byte 4 is 0xff"),
        ('a,b\n1,"open\n', "line 2: unexpected end of data"),
        (gzip.compress(b"a,b\n1,2\n" * 100, mtime=0)[:20], "damaged gzip"),
    ],
)
def test_bad_files_are_named_with_the_reason(write, text, words):
    with pytest.raises(DataError, match=r"data\.csv") as caught:
        read_csv(write(text))
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"no file .*nowhere\.csv"):
        read_csv(tmp_path / "nowhere.csv")


def test_an_unknown_column_suggests_close_names():
    table = Table({"Species": ["a"], "width": ["1"]}, "iris.csv", [2])
    with pytest.raises(DataError, match=r"no column 'specie'. Did you mean 'Species'\?"):
        table["specie"]
    with pytest.raises(DataError, match="Its columns are: Species, width"):
        table["zzz"]


def test_take_keeps_lines():
    table = Table({"a": ["x", "y", "z"]}, "t", [2, 3, 5]).take([2, 0])
    assert table["a"] == ["z", "x"]
    assert table.where("a", 0) == "t, line 5, column 'a'"


def test_floats_survive_text_exactly():
    values = np.random.default_rng(0).standard_normal(100).tolist()
    assert [float(cell) for cell in from_columns({"a": values}, "t")["a"]] == values


def test_data_frames_become_tables():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.5, None], "b": ["x", None], "c": [True, False]})
    table = from_frame(frame)
    assert {name: list(cells) for name, cells in table.columns.items()} == {
        "a": ["1.5", ""],
        "b": ["x", ""],
        "c": ["True", "False"],
    }
    with pytest.raises(DataError, match="more than one column named a"):
        from_frame(pandas.DataFrame([[1, 2]], columns=["a", "a"]))
