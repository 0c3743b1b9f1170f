"""Other data treated as a model's training data was, and model outputs in the data's own terms.

    rows = load_labelled(source.preprocessing, "fashion-mnist")   # its test part
    rows = load_unlabelled(source.preprocessing, "new.csv")       # every row, target or not
    names = decode(source.preprocessing, outputs)

`preprocessing` is what `load_source` found out and the model's run folder keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ganglion.config import optional
from ganglion.data.formats import read_bytes, read_idx
from ganglion.data.sources import (
    Array,
    ImageSet,
    Part,
    find,
    load_parts,
    read_table,
    standardise,
    table_parts,
)
from ganglion.data.table import Table
from ganglion.data.tabular import TablePreprocessor, drop_missing_target
from ganglion.errors import ArgumentError, DataError

Saved = Mapping[str, Any]

_PICTURES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Rows:
    """Samples to evaluate or predict.

    x: (N, *feature_shape) float32.
    y: (N,) int64 class numbers or (N, 1) float32 standardised targets; None when unlabelled.
    unseen: cells by column whose category is unknown; filled: missing cells by column.
    lines: line of the CSV file each row came from; empty for images.
    whole: whether this is everything the data holds, not only a part of the training data.
    """

    x: NDArray[np.float32]
    y: Array | None
    unseen: dict[str, int] = field(default_factory=dict)
    filled: dict[str, int] = field(default_factory=dict)
    lines: tuple[int, ...] = ()
    whole: bool = True


def load_labelled(saved: Saved, data: str | Path, part: Part = "test") -> Rows:
    """Samples with targets to evaluate a model on.

    Of the data the model was trained on, told by its hash, this is only `part`, cut with the
    training's seed; of other data it is every row that has a target.

    Errors: `ArgumentError` for another data set than the model's kind; `DataError` for data that
    lacks columns or has unknown classes; `NotFoundError`.
    """
    record = find(data)
    if isinstance(record, ImageSet):
        _check_set(saved, data)
        raw, _ = load_parts(record, saved["seed"])
        images, labels = raw[part]
        return Rows(standardise(saved, images), labels, whole=False)
    if saved["kind"] != "table":
        raise ArgumentError(
            f"{data} has no labels for images; evaluate on the named set {saved['source']!r}."
        )
    table, _, content = read_table(record, data)
    learned = TablePreprocessor.from_dict(saved)
    table, _ = drop_missing_target(table, learned.target.name)
    same = content == saved["data_hash"]
    if same:
        table = table.take(table_parts(table, learned.target, saved["seed"])[part].tolist())
    return _table_rows(learned, table, labelled=True, whole=not same)


def load_unlabelled(saved: Saved, path: str | Path) -> Rows:
    """Every sample of a file: CSV rows, or images from .npy, IDX and picture files.

    Image values are in the training data's own unit, 0 to 255 for the named sets but `digits`.

    Errors: as `load_labelled`, and `DataError` for images of another shape.
    """
    record = find(path)
    if isinstance(record, ImageSet):
        return load_labelled(saved, path)
    if saved["kind"] == "table":
        table, _, _ = read_table(record, path)
        return _table_rows(TablePreprocessor.from_dict(saved), table, labelled=False)
    return Rows(standardise(saved, read_images(path, tuple(saved["shape"]))), None)


def _check_set(saved: Saved, data: str | Path) -> None:
    if str(data) != saved["source"]:
        raise ArgumentError(f"The model was trained on {saved['source']!r}, not on {str(data)!r}.")


def _table_rows(
    learned: TablePreprocessor, table: Table, *, labelled: bool, whole: bool = True
) -> Rows:
    encoded = learned.encode(table)
    y = learned.target.encode(table) if labelled else None
    return Rows(encoded.x, y, encoded.unseen, encoded.filled, tuple(table.lines), whole)


def decode(saved: Saved, outputs: Array) -> list[str] | NDArray[np.float64]:
    """Class names of outputs (N, classes), or regression outputs (N, 1) in the target's unit."""
    if saved["kind"] == "table":
        return TablePreprocessor.from_dict(saved).target.decode(outputs)
    return [saved["classes"][number] for number in np.argmax(outputs, axis=1)]


def read_images(path: str | Path, shape: tuple[int, ...]) -> Array:
    """Images (N, *shape), shape = (C, H, W), from a .npy, IDX or picture file.

    One image may come without N, grey ones without C.

    Errors: `DataError` for other shapes and for files that hold no numbers.
    """
    path = Path(path)
    found = _read_array(path, shape)
    channels, height, width = shape
    if found.ndim == 2 or (found.ndim == 3 and channels > 1):
        found = found[None]
    if channels == 1 and found.shape[1:] == (height, width):
        found = found[:, None]
    if found.shape[1:] != shape or found.dtype.kind not in "uif":
        raise DataError(
            f"{path} holds {found.dtype} of shape {found.shape}; the model expects numbers of "
            f"shape (N, {', '.join(map(str, shape))}). Resize or crop the images first."
        )
    return found


def _read_array(path: Path, shape: tuple[int, ...]) -> Array:
    if path.suffix == ".npy":
        try:
            return np.asarray(np.load(path, allow_pickle=False))
        except (ValueError, EOFError) as error:
            message = f"{path} is no array of numbers ({error}); write it with np.save."
            raise DataError(message) from None
    if path.suffix.lower() in _PICTURES:
        return _read_picture(path, gray=shape[0] == 1)
    if read_bytes(path)[:2] != b"\0\0":
        raise DataError(f"{path} holds no images; expected .npy, IDX, or {', '.join(_PICTURES)}.")
    return read_idx(path)


def _read_picture(path: Path, *, gray: bool) -> Array:
    image = optional("PIL.Image", "data")
    try:
        with image.open(path) as picture:
            pixels = np.asarray(picture.convert("L" if gray else "RGB"))
    except OSError as error:
        raise DataError(f"{path} is no picture that can be read: {error}.") from None
    return pixels if gray else pixels.transpose(2, 0, 1)
