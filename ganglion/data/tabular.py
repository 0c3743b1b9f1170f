"""From text cells to numbers: column kinds, scaling, one-hot categories, missing values.

    preprocessor = TablePreprocessor.fit(table, target="species", rows=train_rows)
    encoded = preprocessor.encode(table)          # encoded.x: (rows, width) float32
    json.dumps(preprocessor.to_dict())            # saved with the model; from_dict() reads it

| kind     | cells                          | becomes                                          |
|----------|--------------------------------|--------------------------------------------------|
| number   | all are finite numbers         | standardised: (x - mean) / std                   |
| boolean  | true/false, yes/no, t/f, y/n   | 1 or 0, then like a number                       |
| date     | ISO 8601 dates or times        | days since 1970-01-01 UTC, then like a number    |
| category | any other text                 | one column of 0 and 1 per category               |
| drop     | constant, row numbers and ids, text with too many values | nothing; a warning says so |

A missing number becomes the median of the training rows and, when those had missing ones, sets
an extra 0/1 column. A missing category is a category of its own when the training rows had one.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ganglion.data.table import Table, shorten
from ganglion.errors import ArgumentError, DataError

Floats = NDArray[np.float32]
Task = Literal["classification", "regression"]
Parse = Callable[[str], float]

_BOOLEANS: Final = {"true": 1.0, "yes": 1.0, "t": 1.0, "y": 1.0, "on": 1.0,
                    "false": 0.0, "no": 0.0, "f": 0.0, "n": 0.0, "off": 0.0}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_IDENTIFIER: Final = re.compile(r"(^|[\s_-])(id|uuid|guid|index|row)$|[a-z](Id|ID)$|^unnamed_")
_MOSTLY: Final = 0.9  # a column with this share of numbers is taken for one with typing errors
_MANY: Final = 20  # rows from which all-different values say that a column names its rows


def _number(cell: str) -> float:
    value = float(cell)
    if "_" in cell or not math.isfinite(value):
        raise ValueError(cell)
    return value


def _boolean(cell: str) -> float:
    if cell.casefold() not in _BOOLEANS:
        raise ValueError(cell)
    return _BOOLEANS[cell.casefold()]


def _date(cell: str) -> float:
    moment = datetime.fromisoformat(cell)
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH).total_seconds() / 86400.0


PARSERS: Final[dict[str, Parse]] = {"boolean": _boolean, "number": _number, "date": _date}
KINDS: Final = (*PARSERS, "category", "drop")


@dataclass(frozen=True)
class Encoded:
    """Features of some rows, and how many cells had to be made up.

    x: (rows, width) float32.
    unseen: cells by column whose category the training rows did not have; all their 0/1
        columns are 0.
    filled: missing cells by column, replaced by the training median or category.
    """

    x: Floats
    unseen: dict[str, int]
    filled: dict[str, int]


@dataclass(frozen=True)
class NumberColumn:
    """A number, boolean or date column: fill, standardise, and mark missing cells if `marked`."""

    name: str
    kind: str
    fill: float
    mean: float
    std: float
    marked: bool

    @classmethod
    def fit(cls, table: Table, name: str, kind: str) -> "NumberColumn":
        values = parse_column(table, name, kind)
        missing = np.isnan(values)
        fill = float(np.median(values[~missing])) if not missing.all() else 0.0
        values[missing] = fill
        return cls(name, kind, fill, *moments(values), bool(missing.any()))

    @property
    def features(self) -> list[str]:
        return [self.name, f"{self.name} is missing"] if self.marked else [self.name]

    def encode(self, table: Table) -> tuple[Floats, int, int]:
        """Features (rows, 1 or 2), unseen cells, filled cells."""
        values = parse_column(table, self.name, self.kind)
        missing = np.isnan(values)
        values[missing] = self.fill
        scaled = (values - self.mean) / self.std
        parts = [scaled, missing] if self.marked else [scaled]
        return np.stack(parts, axis=1).astype(np.float32), 0, int(missing.sum())


@dataclass(frozen=True)
class CategoryColumn:
    """A text column: one 0/1 column a category; the category "" stands for missing cells."""

    name: str
    categories: tuple[str, ...]
    kind: str = "category"

    @property
    def features(self) -> list[str]:
        return [f"{self.name}={category or 'missing'}" for category in self.categories]

    def encode(self, table: Table) -> tuple[Floats, int, int]:
        """Features (rows, categories), unseen cells, filled cells."""
        position = {category: i for i, category in enumerate(self.categories)}
        cells = table[self.name]
        codes = np.array([position.get(cell, -1) for cell in cells], np.int64)
        x = (codes[:, None] == np.arange(len(position))).astype(np.float32)
        unseen = sum(1 for cell in cells if cell and cell not in position)
        return x, unseen, sum(1 for cell in cells if not cell)


@dataclass(frozen=True)
class Target:
    """What a table's model predicts: classes, or a number that is standardised for training."""

    name: str
    task: Task
    classes: tuple[str, ...] = ()
    mean: float = 0.0
    std: float = 1.0

    def encode(self, table: Table) -> NDArray[Any]:
        """Class numbers (rows,) int64, or standardised values (rows, 1) float32."""
        require_target(table, self.name)
        if self.task == "regression":
            values = parse_column(table, self.name, "number")
            return ((values - self.mean) / self.std).astype(np.float32)[:, None]
        numbers = {name: i for i, name in enumerate(self.classes)}
        cells = [class_name(cell) for cell in table[self.name]]
        for row, cell in enumerate(cells):
            if cell not in numbers:
                raise DataError(
                    f"{table.where(self.name, row)} is {cell!r}; the model knows the classes "
                    f"{shorten(self.classes)}."
                )
        return np.array([numbers[cell] for cell in cells], np.int64)

    def decode(self, outputs: NDArray[Any]) -> list[str] | NDArray[np.float64]:
        """Class names, or values in the target's own unit, of model outputs (rows, ...)."""
        if self.task == "regression":
            return np.asarray(outputs, np.float64).reshape(-1) * self.std + self.mean
        return [self.classes[i] for i in np.argmax(outputs, axis=1)]


@dataclass(frozen=True)
class TablePreprocessor:
    """How the columns of a table become features; a record that survives JSON exactly."""

    columns: tuple[NumberColumn | CategoryColumn, ...]
    dropped: Mapping[str, str]
    target: Target

    @classmethod
    def fit(
        cls,
        table: Table,
        target: str,
        *,
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        task: Task | None = None,
        kinds: Mapping[str, str] | None = None,
        max_categories: int = 100,
    ) -> "TablePreprocessor":
        """Learn kinds, scales and categories from the training `rows` (all rows by default).

        The classes of the target are those of the whole table. kinds: a kind by column name
        where the inferred one is wrong. Columns left out are named in a warning.

        Errors: `DataError` for missing columns, targets and cells that are not numbers in a
        column of numbers; `ArgumentError` for an unknown kind.
        """
        kinds = _checked_kinds(table, kinds or {})
        goal = fit_target(table, target, task, rows)
        part = table if rows is None else table.take(map(int, rows))
        found = {
            name: (kinds[name], "you asked") if name in kinds
            else infer_kind(part, name, max_categories)
            for name in table.columns if name != target
        }  # fmt: skip
        dropped = {name: why for name, (kind, why) in found.items() if kind == "drop"}
        kept = [(name, kind) for name, (kind, _) in found.items() if kind != "drop"]
        _report(dropped, kept, target)
        return cls(tuple(_fit_column(part, *pair) for pair in kept), dropped, goal)

    @property
    def feature_names(self) -> list[str]:
        """Name of every column of `Encoded.x`."""
        return [feature for column in self.columns for feature in column.features]

    def encode(self, table: Table) -> Encoded:
        """Features of `table`, which needs the used columns and may have others.

        Errors: `DataError` for a missing column and for a cell that is not of its column's kind.
        """
        _check_columns(table, [column.name for column in self.columns])
        parts, unseen, filled = [], Counter[str](), Counter[str]()
        for column in self.columns:
            x, unseen[column.name], filled[column.name] = column.encode(table)
            parts.append(x)
        return Encoded(np.concatenate(parts, axis=1), dict(+unseen), dict(+filled))

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "columns": [_json(column) for column in self.columns],
            "dropped": dict(self.dropped),
            "target": _json(self.target),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "TablePreprocessor":
        """The preprocessor that `to_dict` wrote."""
        target = {**saved["target"], "classes": tuple(saved["target"]["classes"])}
        columns = tuple(_column_from_dict(column) for column in saved["columns"])
        return cls(columns, dict(saved["dropped"]), Target(**target))


def _json(record: NumberColumn | CategoryColumn | Target) -> dict[str, Any]:
    """Fields of a record, tuples as lists."""
    fields = vars(record).items()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in fields}


def _column_from_dict(saved: Mapping[str, Any]) -> NumberColumn | CategoryColumn:
    if saved["kind"] == "category":
        return CategoryColumn(saved["name"], tuple(saved["categories"]))
    return NumberColumn(**saved)


def _fit_column(table: Table, name: str, kind: str) -> NumberColumn | CategoryColumn:
    if kind == "category":
        return CategoryColumn(name, tuple(sorted(set(table[name]))))
    return NumberColumn.fit(table, name, kind)


def moments(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; the latter is 1 where all values are equal."""
    mean, std = float(values.mean()), float(values.std())
    return mean, std if std > 1e-12 * max(1.0, abs(mean)) else 1.0


def parse_column(table: Table, name: str, kind: str) -> NDArray[np.float64]:
    """Cells as float64, NaN where missing; `DataError` naming the first cells that are wrong."""
    parse, bad, values = PARSERS[kind], [], np.full(len(table), np.nan)
    for row, cell in enumerate(table[name]):
        try:
            values[row] = parse(cell) if cell else np.nan
        except ValueError:
            bad.append(row)
    if bad:
        raise DataError(_bad_cells(table, name, kind, bad))
    return values


def _bad_cells(table: Table, name: str, kind: str, bad: list[int]) -> str:
    cells = [f"{table[name][row]!r} in line {table.lines[row]}" for row in bad]
    return (
        f"Column {name!r} of {table.name} holds {kind}s, but {len(bad)} of {len(table)} cells are "
        f"none: {shorten(cells, 3)}. Correct them, leave them empty, or give the column the "
        "kind 'category' or 'drop'."
    )


def infer_kind(table: Table, name: str, max_categories: int) -> tuple[str, str]:
    """Kind of a column and, when it is dropped, the reason; the module's table has the rules."""
    cells = table[name]
    present = [cell for cell in cells if cell]
    distinct = set(present)
    if len(set(cells)) <= 1:
        return "drop", f"all cells are {cells[0]!r}" if present else "all cells are empty"
    unique = len(distinct) == len(cells) >= _MANY
    kind = _parsed_kind(table, name, distinct)
    if kind == "number" and unique and _IDENTIFIER.search(name):
        return "drop", "it numbers the rows"
    if kind is not None:
        return kind, ""
    if len(distinct) > max_categories or (len(cells) >= _MANY and len(distinct) > len(cells) / 2):
        return "drop", f"it has {len(distinct)} different values in {len(cells)} rows"
    return "category", ""


def _parsed_kind(table: Table, name: str, distinct: set[str]) -> str | None:
    for kind, parse in PARSERS.items():
        good = {cell for cell in distinct if _parses(parse, cell)}
        if len(good) == len(distinct):
            return kind
        if kind == "number" and good:
            _refuse_typing_errors(table, name, good)
    return None


def _refuse_typing_errors(table: Table, name: str, numbers: set[str]) -> None:
    """Raise when nearly all cells are numbers: the others are likelier wrong than categories."""
    present = [row for row, cell in enumerate(table[name]) if cell]
    bad = [row for row in present if table[name][row] not in numbers]
    if len(present) - len(bad) >= _MOSTLY * len(present):
        raise DataError(_bad_cells(table, name, "number", bad))


def _parses(parse: Parse, cell: str) -> bool:
    try:
        parse(cell)
    except ValueError:
        return False
    return True


def _checked_kinds(table: Table, kinds: Mapping[str, str]) -> Mapping[str, str]:
    for name, kind in kinds.items():
        _ = table[name]  # raises for a column that is not there
        if kind not in KINDS:
            raise ArgumentError(f"Kind of column {name!r} must be one of {KINDS}, got {kind!r}.")
    return kinds


def _check_columns(table: Table, needed: list[str]) -> None:
    absent = [name for name in needed if name not in table.columns]
    if absent:
        raise DataError(
            f"{table.name} lacks {len(absent)} of the {len(needed)} columns the model was "
            f"trained on: {shorten(absent)}. It has: {shorten(table.columns)}."
        )


def _report(dropped: Mapping[str, str], kept: Sequence[tuple[str, str]], target: str) -> None:
    if not kept:
        reasons = "; ".join(f"{name}: {why}" for name, why in dropped.items()) or "there is none"
        raise DataError(f"No column beside the target {target!r} can be used ({reasons}).")
    if dropped:
        reasons = "; ".join(f"{name!r} ({why})" for name, why in dropped.items())
        warnings.warn(f"Columns left out: {reasons}.", stacklevel=3)
    dates = [name for name, kind in kept if kind == "date"]
    if dates:
        warnings.warn(f"Date columns became days since 1970: {shorten(dates)}.", stacklevel=3)


def require_target(table: Table, name: str) -> None:
    """`DataError` when a row has no target; `drop_missing_target` leaves such rows out."""
    empty = [row for row, cell in enumerate(table[name]) if not cell]
    if empty:
        raise DataError(f"{table.where(name, empty[0])} is empty, and {len(empty) - 1} more cells.")


def drop_missing_target(table: Table, name: str) -> tuple[Table, int]:
    """The rows that have a target, and how many had none."""
    rows = [row for row, cell in enumerate(table[name]) if cell]
    if not rows:
        raise DataError(f"Column {name!r} of {table.name}, the target, is empty in every row.")
    return (table, 0) if len(rows) == len(table) else (table.take(rows), len(table) - len(rows))


def class_name(cell: str) -> str:
    """One spelling for a class: `1`, `1.0` and `01` are the same."""
    try:
        value = _number(cell)
    except ValueError:
        return cell
    return str(int(value)) if value.is_integer() else repr(value)


def infer_task(cells: Sequence[str]) -> Task:
    """Classification for text and for few different whole numbers, else regression."""
    if not all(_parses(_number, cell) for cell in cells):
        return "classification"
    values = {float(cell) for cell in cells}
    whole = all(value.is_integer() for value in values)
    few = max(2, min(20, len(cells) // 10))
    return "classification" if whole and len(values) <= few else "regression"


def fit_target(
    table: Table,
    name: str,
    task: Task | None = None,
    rows: Sequence[int] | NDArray[np.int64] | None = None,
) -> Target:
    """Classes of the whole table, or mean and spread of the target in the training `rows`.

    Errors: `DataError` for missing or equal targets, and for text that differs in most rows.
    """
    require_target(table, name)
    task = task or infer_task(table[name])
    if task == "regression":
        values = parse_column(table, name, "number")
        _refuse_constant(table, name, len(set(values.tolist())))
        known = values if rows is None else values[np.asarray(rows)]
        return Target(name, task, (), *moments(known))
    classes = sorted({class_name(cell) for cell in table[name]}, key=_class_order)
    _refuse_constant(table, name, len(classes))
    if len(classes) > max(_MANY, len(table) // 2):
        raise DataError(
            f"Column {name!r} of {table.name} has {len(classes)} different values in {len(table)} "
            "rows, too many for classes. Choose another target, or task 'regression' for numbers."
        )
    return Target(name, task, tuple(classes))


def _class_order(name: str) -> tuple[int, float, str]:
    """Numbers first, by value; then text by the alphabet."""
    return (0, float(name), name) if _parses(_number, name) else (1, 0.0, name)


def _refuse_constant(table: Table, name: str, distinct: int) -> None:
    if distinct < 2:
        raise DataError(
            f"Column {name!r} of {table.name}, the target, is {table[name][0]!r} in every row; "
            "there is nothing to learn."
        )
