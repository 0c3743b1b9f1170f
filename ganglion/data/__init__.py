"""Data sets, loaders and everything between a file and a batch (also `torch.utils.data`)."""

# ruff: noqa: F401, PLE0604 - type checkers read the imports, __getattr__ the table of names

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganglion.data.collate import default_collate, default_convert
    from ganglion.data.dataset import (
        ConcatDataset,
        Dataset,
        IterableDataset,
        Subset,
        TensorDataset,
        random_split,
    )
    from ganglion.data.formats import read_idx
    from ganglion.data.images import (
        CIFAR10,
        MNIST,
        FashionMNIST,
        ImageDataset,
        load_cifar10,
        load_fashion_mnist,
        load_mnist,
    )
    from ganglion.data.loader import DataLoader, get_worker_info
    from ganglion.data.rows import Rows, decode, load_labelled, load_unlabelled
    from ganglion.data.sampler import (
        BatchSampler,
        RandomSampler,
        Sampler,
        SequentialSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
    )
    from ganglion.data.sources import SOURCES, Source, Split, load_source
    from ganglion.data.splits import split_indices
    from ganglion.data.table import Table, from_frame, read_csv
    from ganglion.data.tabular import TablePreprocessor

# Which file holds each public name; loaded when first asked for.
_PUBLIC = {
    "collate": "default_collate default_convert",
    "dataset": "ConcatDataset Dataset IterableDataset Subset TensorDataset random_split",
    "formats": "read_idx",
    "images": """
        CIFAR10 MNIST FashionMNIST ImageDataset load_cifar10 load_fashion_mnist load_mnist
    """,
    "loader": "DataLoader get_worker_info",
    "rows": "Rows decode load_labelled load_unlabelled",
    "sampler": """
        BatchSampler RandomSampler Sampler SequentialSampler SubsetRandomSampler
        WeightedRandomSampler
    """,
    "sources": "SOURCES Source Split load_source",
    "splits": "split_indices",
    "table": "Table from_frame read_csv",
    "tabular": "TablePreprocessor",
}
_WHERE = {name: file for file, names in _PUBLIC.items() for name in names.split()}

__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"ganglion.data has no {name!r}; it has: {', '.join(_WHERE)}.")
    found = getattr(importlib.import_module(f"ganglion.data.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(_WHERE)
