"""RunFolder: the files that one training run leaves behind."""

from __future__ import annotations

import csv
import io
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from ganglion.errors import ArgumentError, CheckpointError, NotFoundError
from ganglion.serialize import atomic_write, load
from ganglion.tensor import Tensor
from ganglion.train.events import Record
from ganglion.train.toml import dump_toml

_MARKS: Final = ("config.toml", "run.json")  # a folder without these is no run
_FILES: Final = (*_MARKS, "metrics.csv", "best.safetensors", "last.safetensors")


class RunFolder:
    """A folder with config.toml, run.json, metrics.csv, best.safetensors and last.safetensors.

    Every file is written whole under a temporary name and renamed; rows of metrics.csv are
    appended, and the file is written anew on resume and at the end.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    # --- making and finding -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        root: str | os.PathLike[str],
        name: str,
        config: Mapping[str, Any],
        record: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make ``root/name-1``, or the first number that is free; nothing is overwritten.

        config: nested plain values for config.toml; record: facts for run.json.
        """
        if name in {"", ".", ".."} or Path(name).name != name:
            raise ArgumentError(f"a run's name must be that of one folder, got {name!r}")
        texts = dump_toml(config), _json(record or {})
        Path(root).mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = cls(Path(root) / f"{name}-{number}")
            try:
                folder.path.mkdir()
                break
            except FileExistsError:
                continue
        return folder._filled(*texts)

    @classmethod
    def at(
        cls,
        path: str | os.PathLike[str],
        config: Mapping[str, Any],
        record: Mapping[str, Any] | None = None,
    ) -> Self:
        """The run at exactly this path: opened when it is there, made when it is not.

        Errors: ``ArgumentError`` for a folder that holds something else.
        """
        folder, texts = cls(path), (dump_toml(config), _json(record or {}))
        folder.path.mkdir(parents=True, exist_ok=True)
        if not folder.missing():
            return folder
        ours = {*_MARKS, *folder._leftovers()}  # of a process killed right here
        if any(found.name not in ours for found in folder.path.iterdir()):
            raise ArgumentError(f"{path} is no run folder and not empty; choose another one")
        return folder._filled(*texts)

    def _filled(self, config: str, record: str) -> Self:
        self._write("config.toml", config)
        self._write("run.json", record)
        return self

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """An existing run; ``NotFoundError`` says what is missing."""
        folder = cls(path)
        if not folder.path.is_dir():
            raise NotFoundError(f"there is no run folder {path}.{folder._neighbours()}")
        if missing := folder.missing():
            raise NotFoundError(
                f"{path} is not a run folder: {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing.{folder._neighbours()}"
            )
        return folder

    def missing(self) -> list[str]:
        """The files that a run has and this folder lacks."""
        return [name for name in _MARKS if not (self.path / name).is_file()]

    def _neighbours(self) -> str:
        root = self.path.parent
        runs = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        runs = [name for name in runs if not RunFolder(root / name).missing()]
        close = get_close_matches(self.path.name, runs, 3) or runs[-3:]
        return f" In {root} there are the runs {', '.join(close)}." if close else ""

    # --- its files ----------------------------------------------------------------------------

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        """The newest checkpoint, from which training resumes."""
        return self.path / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """One row an epoch."""
        return self.path / "metrics.csv"

    def config(self) -> dict[str, Any]:
        """The contents of config.toml."""
        try:
            return tomllib.loads((self.path / "config.toml").read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{self.path / 'config.toml'} is no TOML: {error}") from error

    def record(self) -> dict[str, Any]:
        """The contents of run.json."""
        try:
            found: dict[str, Any] = json.loads((self.path / "run.json").read_bytes())
        except ValueError as error:
            raise CheckpointError(f"{self.path / 'run.json'} is no JSON: {error}") from error
        return found

    def update_record(self, **facts: Any) -> None:
        """Add facts to run.json, or change them."""
        self._write("run.json", _json({**self.record(), **facts}))

    def weights(self, checkpoint: str = "best") -> dict[str, Tensor]:
        """The model's state in "best" or "last"; ``NotFoundError`` when it is not written yet."""
        path = {"best": self.best, "last": self.last}[checkpoint]
        if not path.is_file():
            raise NotFoundError(
                f"{self.path} has no {path.name} yet: no epoch was finished. Resume the run first."
            )
        tree = load(path)
        if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
            raise CheckpointError(f"{path} is no checkpoint of a Trainer: it has no 'model'")
        return dict(tree["model"])

    # --- metrics.csv --------------------------------------------------------------------------

    def write_metrics(self, history: Sequence[Record]) -> None:
        """Write metrics.csv anew; its columns are all that occur in the records."""
        columns = list(dict.fromkeys(name for record in history for name in record))
        rows = [[_cell(record.get(name, "")) for name in columns] for record in history]
        self._write("metrics.csv", _csv([columns, *rows]))

    def append_metrics(self, history: Sequence[Record]) -> None:
        """Add the newest record as a row, or write all anew when its columns are new."""
        *earlier, newest = history
        if not earlier or list(earlier[-1]) != list(newest):
            self.write_metrics(history)
            return
        with self.metrics.open("a", encoding="utf-8", newline="") as file:
            file.write(_csv([[_cell(value) for value in newest.values()]]))

    # --- writing ------------------------------------------------------------------------------

    def _write(self, name: str, text: str) -> None:
        atomic_write(self.path / name, lambda file: file.write(text.encode()))

    def tidy(self) -> None:
        """Remove what a killed process left half-written."""
        for name in self._leftovers():
            (self.path / name).unlink(missing_ok=True)

    def _leftovers(self) -> list[str]:
        return [p.name for name in _FILES for p in self.path.glob(f".{name}.*.tmp")]


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(dict(facts), indent=2) + "\n"


def _cell(value: Any) -> str:
    """Numbers so that they can be read back exactly."""
    return repr(float(value)) if isinstance(value, float) else str(value)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
