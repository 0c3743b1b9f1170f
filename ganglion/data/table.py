"""A table of text cells with named columns, read from a CSV file or taken from a data frame.

    table = read_csv("wine.csv")
    table["quality"]              # list of str, "" where the cell is missing

Cells stay text: `tabular.py` decides what they mean, by the same rule in training and later.
"""

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from ganglion.errors import DataError, NotFoundError

MISSING: Final = frozenset({"", "?", "na", "n/a", "#n/a", "nan", "null", "none", "<na>", "nat"})
_DELIMITERS: Final = ",;\t|"


@dataclass(frozen=True)
class Table:
    """Named columns of text cells, all of one length.

    columns: cells by column name; "" is a missing cell.
    name: file the rows came from, for messages.
    lines: line of the file that each row came from.
    """

    columns: Mapping[str, Sequence[str]]
    name: str
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, column: str) -> Sequence[str]:
        """Cells of one column; `DataError` with close names when there is none."""
        if column not in self.columns:
            raise DataError(f"{self.name} has no column {column!r}. {self._suggestion(column)}")
        return self.columns[column]

    def _suggestion(self, column: str) -> str:
        folded = {name.casefold(): name for name in self.columns}
        close = [folded[name] for name in get_close_matches(column.casefold(), folded, 3, 0.5)]
        if close:
            return "Did you mean " + " or ".join(map(repr, close)) + "?"
        return "Its columns are: " + shorten(self.columns) + "."

    def take(self, rows: Iterable[int]) -> "Table":
        """A table of these rows, in this order."""
        chosen = list(rows)
        columns = {name: [cells[i] for i in chosen] for name, cells in self.columns.items()}
        return Table(columns, self.name, [self.lines[i] for i in chosen])

    def where(self, column: str, row: int) -> str:
        """The place of one cell, for messages."""
        return f"{self.name}, line {self.lines[row]}, column {column!r}"


def shorten(names: Iterable[str], limit: int = 12) -> str:
    """Names joined by commas, the first `limit` of them."""
    found = list(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def is_missing(cell: str) -> bool:
    """Whether a cell's text, already stripped, stands for no value."""
    return cell.casefold() in MISSING


def read_csv(path: Path | str) -> Table:
    """Read a CSV file with a header line (UTF-8, plain or gzip; `,` `;` tab or `|` between cells).

    Cells lose the blanks around them; `MISSING` lists what counts as a missing one.

    Errors: `NotFoundError` when there is no file; `DataError` for an empty or damaged file,
    repeated column names and lines with a wrong number of cells.
    """
    path = Path(path)
    rows = _records(_text(path), path)
    if not rows:
        raise DataError(f"{path} is empty; expected a line of column names, then one line a row.")
    header = _header(rows[0][1], path)
    body = rows[1:]
    if not body:
        raise DataError(f"{path} has column names but no rows.")
    _check_widths(body, len(header), path)
    cells = zip(*(cells for _, cells in body), strict=True)
    columns = {name: [*map(_clean, column)] for name, column in zip(header, cells, strict=True)}
    return Table(columns, str(path), [line for line, _ in body])


def from_frame(frame: Any, name: str = "the data frame") -> Table:
    """The cells of a pandas or polars data frame as text; `lines` counts rows from 1."""
    names = [str(column) for column in frame.columns]
    _check_names(names, name)
    columns = {
        text: [_cell(value) for value in frame[column].to_list()]
        for text, column in zip(names, frame.columns, strict=True)
    }
    return Table(columns, name, list(range(1, len(frame) + 1)))


def from_columns(columns: Mapping[str, Sequence[Any]], name: str) -> Table:
    """A table of Python values or arrays, written as text; floats survive exactly."""
    cells = {key: [_cell(value) for value in values] for key, values in columns.items()}
    return Table(cells, name, list(range(1, len(next(iter(cells.values()))) + 1)))


def file_hash(path: Path | str) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _cell(value: Any) -> str:
    return "" if value is None else _clean(str(value))


def _clean(cell: str) -> str:
    cell = cell.strip()
    return "" if is_missing(cell) else cell


def _text(path: Path) -> str:
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; give the path of a CSV file.")
    data = path.read_bytes()
    try:
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}. "
            f"Convert it, for example with: iconv -f latin1 -t utf-8 {path.name}"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); fetch it again.") from error


def _records(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """Lines that hold anything, as (line number, cells)."""
    header = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}; check its quotes.") from None


def _header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() or f"unnamed_{i + 1}" for i, cell in enumerate(cells)]
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path} begins with numbers ({shorten(names, 4)}); expected a line of column names. "
            "Add one at the top."
        )
    _check_names(names, str(path))
    return names


def _check_names(names: list[str], source: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"{source} has more than one column named {shorten(repeated)}; rename all but one."
        )


def _check_widths(body: list[tuple[int, list[str]]], width: int, path: Path) -> None:
    bad = [(line, len(cells)) for line, cells in body if len(cells) != width]
    if bad:
        line, found = bad[0]
        raise DataError(
            f"{path}, line {line} has {found} cells; the header has {width}. "
            f"{len(bad)} such lines; quote cells that contain the delimiter."
        )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
