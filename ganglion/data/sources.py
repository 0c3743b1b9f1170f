"""Named data sets and CSV files, ready to train on: `ganglion train iris` begins here.

    source = load_source("fashion-mnist", seed=0)
    source.train.x                       # (54000, 1, 28, 28) float32, standardised
    source.preprocessing                 # JSON values, saved with the model; `rows.py` reads them

A set with an official test part keeps it, and the validation part is cut from the training part;
others are cut in three. Scales, fill values and categories come from the training part alone.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from ganglion.config import optional
from ganglion.data.images import (
    CIFAR10_CLASSES,
    DIGITS,
    FASHION_CLASSES,
    load_cifar10,
    load_fashion_mnist,
    load_mnist,
)
from ganglion.data.splits import split_indices
from ganglion.data.table import Table, file_hash, from_columns, read_csv, shorten
from ganglion.data.tabular import (
    TablePreprocessor,
    Target,
    Task,
    drop_missing_target,
    fit_target,
)
from ganglion.errors import ArgumentError, NotFoundError

Array = NDArray[Any]
Indices = NDArray[np.int64]
Part = Literal["train", "valid", "test"]

PARTS: Final[tuple[Part, ...]] = ("train", "valid", "test")
VALID_SHARE: Final = 0.1
TEST_SHARE: Final = 0.2  # where there is no official test part


@dataclass(frozen=True)
class Split:
    """Samples of one part.

    x: (N, *feature_shape) float32.
    y: (N,) int64 class numbers, or (N, 1) float32 targets, standardised.
    """

    x: NDArray[np.float32]
    y: Array

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Source:
    """A data set in three parts, and everything needed to treat other data alike.

    feature_shape: shape of one sample: (C, H, W) of an image, (width,) of a table's row.
    class_names: one for each class; empty for regression.
    feature_names: of a table's features; empty for images.
    preprocessing: JSON values for the functions of `rows.py`.
    data_hash: SHA-256 of the data before any treatment, the same for every seed.
    notes: sentences for the user, such as columns left out.
    """

    name: str
    task: Task
    train: Split
    valid: Split
    test: Split
    class_names: tuple[str, ...]
    preprocessing: dict[str, Any]
    data_hash: str
    feature_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def feature_shape(self) -> tuple[int, ...]:
        return self.train.x.shape[1:]

    @property
    def num_outputs(self) -> int:
        """Outputs a model needs: one a class, or one number."""
        return len(self.class_names) or 1


# --- the named sets -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ImageSet:
    """Images under a name: `load(train)` gives (N, C, H, W) numbers and class numbers.

    official_test: whether `load(False)` gives a test part; else `load(True)` gives everything.
    """

    load: Callable[[bool], tuple[Array, Indices]]
    class_names: tuple[str, ...]
    official_test: bool = True


@dataclass(frozen=True)
class TableSet:
    """A table under a name, with its target column."""

    load: Callable[[], Table]
    target: str


def _load_iris() -> Table:
    """150 flowers: four lengths in cm, and the species (Fisher 1936)."""
    iris = optional("sklearn.datasets", "data").load_iris()
    columns = {
        name.removesuffix(" (cm)").replace(" ", "_"): iris.data[:, i].tolist()
        for i, name in enumerate(iris.feature_names)
    }
    species = [str(iris.target_names[number]) for number in iris.target]
    return from_columns({**columns, "species": species}, "iris")


def _load_digits(train: bool) -> tuple[Array, Indices]:
    """1797 handwritten digits as (N, 1, 8, 8) images of grey 0 to 16."""
    digits = optional("sklearn.datasets", "data").load_digits()
    return digits.images[:, None].astype(np.uint8), digits.target.astype(np.int64)


SOURCES: Final[dict[str, ImageSet | TableSet]] = {
    "iris": TableSet(_load_iris, "species"),
    "digits": ImageSet(_load_digits, DIGITS, official_test=False),
    "mnist": ImageSet(load_mnist, DIGITS),
    "fashion-mnist": ImageSet(load_fashion_mnist, FASHION_CLASSES),
    "cifar10": ImageSet(load_cifar10, CIFAR10_CLASSES),
}


# --- loading ------------------------------------------------------------------------------------


def load_source(
    data: str | Path, target: str | None = None, task: Task | None = None, seed: int = 0
) -> Source:
    """A set named in `SOURCES`, or the CSV file at a path, cut into three parts by `seed`.

    target: column to predict; a CSV file needs it. task: overrides what is inferred from it.

    Errors: `ArgumentError` for a missing or needless option; `NotFoundError` for a name or path
    that does not exist; `DataError` for data that cannot be used.
    """
    record = find(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if isinstance(record, ImageSet):
            _refuse_options(str(data), record, target, task)
            loaded = _image_source(str(data), record, seed)
        else:
            table, name, content = read_table(record, data)
            goal = target or (record.target if record else None)
            loaded = _table_source(table, name, content, goal, task, seed)
    return replace(loaded, notes=(*loaded.notes, *(str(warning.message) for warning in caught)))


def find(data: str | Path) -> ImageSet | TableSet | None:
    """The record of a named set, None for a path; `NotFoundError` for neither."""
    name = str(data)
    if name in SOURCES and not Path(name).is_file():
        return SOURCES[name]
    if Path(name).is_file():
        return None
    close = get_close_matches(name, SOURCES, 1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise NotFoundError(
        f"{name!r} is neither a file nor one of the data sets {', '.join(SOURCES)}.{hint}"
    )


def _refuse_options(name: str, record: ImageSet, target: str | None, task: str | None) -> None:
    if target is not None or task not in {None, "classification"}:
        raise ArgumentError(
            f"{name!r} has its own target, {len(record.class_names)} classes; target and task "
            "are for CSV files. Leave them out."
        )


def read_table(record: TableSet | None, data: str | Path) -> tuple[Table, str, str]:
    """Table, name of the source, and hash of the contents."""
    if record is None:
        return read_csv(data), str(data), file_hash(data)
    table = record.load()
    return table, str(data), _hash(*(np.array(table[name], "U") for name in table.columns))


def _hash(*arrays: Array) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


# --- tables -------------------------------------------------------------------------------------


def _table_source(
    table: Table, name: str, content: str, target: str | None, task: Task | None, seed: int
) -> Source:
    if target is None:
        raise ArgumentError(
            f"Which column of {name} is to be predicted? Name it as target; the columns are: "
            f"{shorten(table.columns)}."
        )
    table, dropped = drop_missing_target(table, target)
    goal = fit_target(table, target, task)
    parts = table_parts(table, goal, seed)
    learned = TablePreprocessor.fit(table, target, rows=parts["train"], task=goal.task)
    x, y = learned.encode(table).x, learned.target.encode(table)
    splits = [Split(x[parts[part]], y[parts[part]]) for part in PARTS]
    saved = {"kind": "table", "source": name, "seed": seed, "data_hash": content}
    return Source(
        name=name,
        task=goal.task,
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        class_names=goal.classes,
        preprocessing={**saved, **learned.to_dict()},
        data_hash=content,
        feature_names=tuple(learned.feature_names),
        notes=(f"{dropped} rows without a value in {target!r} were left out.",) if dropped else (),
    )


def table_parts(table: Table, target: Target, seed: int) -> dict[Part, Indices]:
    """Rows of each part; classes are spread evenly."""
    classes = target.encode(table) if target.task == "classification" else None
    return _three_parts(len(table), classes, seed)


def _three_parts(count: int, labels: Array | None, seed: int) -> dict[Part, Indices]:
    shares = (1 - VALID_SHARE - TEST_SHARE, VALID_SHARE, TEST_SHARE)
    return dict(zip(PARTS, split_indices(count, shares, seed, labels), strict=True))


# --- images -------------------------------------------------------------------------------------


def _image_source(name: str, record: ImageSet, seed: int) -> Source:
    raw, content = load_parts(record, seed)
    mean, std = _channel_moments(raw["train"][0])
    saved = {
        "kind": "images",
        "source": name,
        "seed": seed,
        "data_hash": content,
        "shape": list(raw["train"][0].shape[1:]),
        "mean": mean.tolist(),
        "std": std.tolist(),
        "classes": list(record.class_names),
    }
    splits = [Split(standardise(saved, raw[part][0]), raw[part][1]) for part in PARTS]
    return Source(
        name=name,
        task="classification",
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        class_names=record.class_names,
        preprocessing=saved,
        data_hash=content,
    )


def load_parts(record: ImageSet, seed: int) -> tuple[dict[Part, tuple[Array, Indices]], str]:
    """Images and labels of each part before any treatment, and the hash of all of them."""
    images, labels = record.load(True)
    if not record.official_test:
        parts = _three_parts(len(images), labels, seed)
        return {part: (images[i], labels[i]) for part, i in parts.items()}, _hash(images, labels)
    test = record.load(False)
    train, valid = split_indices(len(images), (1 - VALID_SHARE, VALID_SHARE), seed, labels)
    content = _hash(images, labels, *test)
    return {
        "train": (images[train], labels[train]),
        "valid": (images[valid], labels[valid]),
        "test": test,
    }, content


def _channel_moments(images: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel; sums of bytes are exact in float64."""
    total = squares = np.zeros(images.shape[1])
    for start in range(0, len(images), 4096):  # a few MB of float64 at a time
        chunk = images[start : start + 4096].astype(np.float64)
        total = total + chunk.sum(axis=(0, 2, 3))
        squares = squares + np.square(chunk).sum(axis=(0, 2, 3))
    count = images.size // images.shape[1]
    mean = total / count
    return mean, np.sqrt(squares / count - np.square(mean))


def standardise(preprocessing: Mapping[str, Any], images: Array) -> NDArray[np.float32]:
    """Images (N, C, H, W) minus the training mean, over the training deviation, by channel."""
    mean, std = (np.array(preprocessing[key], np.float32)[:, None, None] for key in ("mean", "std"))
    x = images.astype(np.float32)
    x -= mean
    x /= std
    return x
