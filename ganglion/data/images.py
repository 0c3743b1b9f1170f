"""MNIST, Fashion-MNIST and CIFAR-10: arrays, and data sets of image tensors.

    images, labels = load_fashion_mnist(train=True)   # (60000, 1, 28, 28) uint8, (60000,) int64
    image, label = FashionMNIST()[0]                  # (1, 28, 28) float32 in [0, 1], int

`files.py` says where the files come from.
"""

import hashlib
import tarfile
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from ganglion.creation import from_numpy
from ganglion.data.collate import default_collate
from ganglion.data.dataset import Dataset
from ganglion.data.files import (
    CIFAR10 as CIFAR10_ARCHIVE,
)
from ganglion.data.files import (
    FASHION_MNIST as FASHION_MNIST_FILES,
)
from ganglion.data.files import (
    MNIST as MNIST_FILES,
)
from ganglion.data.files import DataFile, locate, search_folders
from ganglion.data.formats import checked_labels, parse_cifar, read_bytes, read_idx
from ganglion.errors import DataError
from ganglion.tensor import Tensor

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Root = Path | str | None

DIGITS: Final = tuple("0123456789")
FASHION_CLASSES: Final = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                          "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")  # fmt: skip
CIFAR10_CLASSES: Final = ("airplane", "automobile", "bird", "cat", "deer",
                          "dog", "frog", "horse", "ship", "truck")  # fmt: skip

# SHA-256 of CIFAR-10's binary batches, whatever they are packed in
CIFAR10_BATCHES: Final = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
_CIFAR10_FORMS: Final = ("{}.bin", "{}.bin.xz", "cifar-10-batches-bin/{}.bin")


def load_mnist(
    train: bool = True, root: Root = None, *, download: bool = True
) -> tuple[Images, Labels]:
    """Images (N, 1, 28, 28) of grey 0 to 255 and digits (N,): 60,000 to train, 10,000 to test.

    Errors: `DataError` for a wrong file; `NotFoundError` for one that cannot be had.
    """
    return _load_idx(MNIST_FILES, train, root, download)


def load_fashion_mnist(
    train: bool = True, root: Root = None, *, download: bool = True
) -> tuple[Images, Labels]:
    """Like `load_mnist`, with the ten `FASHION_CLASSES`."""
    return _load_idx(FASHION_MNIST_FILES, train, root, download)


def load_cifar10(
    train: bool = True, root: Root = None, *, download: bool = True
) -> tuple[Images, Labels]:
    """Images (N, 3, 32, 32), red, green, blue, and classes (N,): 50,000 to train, 10,000 to test.

    Reads the official archive, or batches lying in the data set's folder as `data_batch_1.bin`
    or `.bin.xz`. When only some of the training batches lie there, a warning says how many.

    Errors: as `load_mnist`.
    """
    names = [name for name in CIFAR10_BATCHES if name.startswith("data") == train]
    archive = CIFAR10_ARCHIVE
    for folder in search_folders(archive.folder, root):
        if (folder / archive.name).exists():
            break
        if any(_batch_file(folder, name) for name in names):
            return _join(_loose_batches(folder, names))
    return _join(_archived_batches(locate(archive, root, download=download), names))


def _load_idx(
    files: dict[str, DataFile], train: bool, root: Root, download: bool
) -> tuple[Images, Labels]:
    part = "train" if train else "test"
    paths = [
        locate(files[f"{part}-{kind}"], root, download=download) for kind in ("images", "labels")
    ]
    images, labels = map(read_idx, paths)
    return checked_images(images, labels, str(paths[0]))


def checked_images(images: NDArray[Any], labels: NDArray[Any], name: str) -> tuple[Images, Labels]:
    """Grey 28x28 images with a channel axis, and their labels; `DataError` if they are not."""
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise DataError(
            f"{name} holds {images.dtype} of shape {images.shape} and labels of shape "
            f"{labels.shape}; expected uint8 (N, 28, 28) and (N,)."
        )
    return images[:, None], checked_labels(labels, 10, name)


def _batch_file(folder: Path, name: str) -> Path | None:
    paths = [folder / form.format(name) for form in _CIFAR10_FORMS]
    return next((path for path in paths if path.exists()), None)


def _loose_batches(folder: Path, names: Sequence[str]) -> list[tuple[Images, Labels]]:
    found = {name: path for name in names if (path := _batch_file(folder, name))}
    if len(found) < len(names):
        warnings.warn(
            f"{folder} has {len(found)} of CIFAR-10's {len(names)} training batches "
            f"({', '.join(found)}): {10_000 * len(found):,} of 50,000 images are used.",
            stacklevel=3,
        )
    with ThreadPoolExecutor() as threads:  # decompression takes seconds and runs outside the GIL
        return list(
            threads.map(_cifar_batch, map(read_bytes, found.values()), found, found.values())
        )


def _archived_batches(path: Path, names: Sequence[str]) -> list[tuple[Images, Labels]]:
    with tarfile.open(path) as archive:
        members = [f"cifar-10-batches-bin/{name}.bin" for name in names]
        streams = [archive.extractfile(member) for member in members]
        contents = [stream.read() for stream in streams if stream is not None]
    return [_cifar_batch(data, name, path) for data, name in zip(contents, names, strict=True)]


def _cifar_batch(data: bytes, name: str, path: Path) -> tuple[Images, Labels]:
    found = hashlib.sha256(data).hexdigest()
    if found != CIFAR10_BATCHES[name]:
        raise DataError(
            f"{path} is not CIFAR-10's {name}.bin: expected contents with SHA-256 "
            f"{CIFAR10_BATCHES[name]} (30,730,000 bytes), found {found} ({len(data):,} bytes). "
            "Delete it and fetch it again."
        )
    return parse_cifar(data, str(path))


def _join(batches: Sequence[tuple[Images, Labels]]) -> tuple[Images, Labels]:
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


class ImageDataset(Dataset[tuple[Any, Any]]):
    """Images held as bytes and given out as float32 in [0, 1], with their labels.

    images: (N, C, H, W) uint8; labels: (N,) int64.
    transform, target_transform: functions of one image tensor (C, H, W) and of one label.
    """

    def __init__(
        self,
        images: Images,
        labels: Labels,
        classes: Sequence[str],
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
    ) -> None:
        self.data = images
        self.targets = labels
        self.classes = list(classes)
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image, label = from_numpy(_unit(self.data[index])), int(self.targets[index])
        return (
            self.transform(image) if self.transform else image,
            self.target_transform(label) if self.target_transform else label,
        )

    def __getbatch__(self, indices: NDArray[np.int64]) -> Any:
        """Images (B, C, H, W) and labels (B,) in one go, unless there is a transform."""
        if self.transform or self.target_transform:
            return default_collate([self[int(i)] for i in indices])
        return [from_numpy(_unit(self.data[indices])), from_numpy(self.targets[indices])]


def _unit(pixels: Images) -> NDArray[np.float32]:
    return np.divide(pixels, np.float32(255), dtype=np.float32)


class OfficialImages(ImageDataset):
    """A published image set; see `ImageDataset` for what it gives out.

    root: folder to search first and to download to; `files.py` has the places searched besides.
    download: whether a missing file may be downloaded.
    """

    load: ClassVar[Callable[..., tuple[Images, Labels]]]
    names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: Root = None,
        train: bool = True,
        transform: Callable[[Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        download: bool = True,
    ) -> None:
        images, labels = type(self).load(train, root, download=download)
        super().__init__(images, labels, self.names, transform, target_transform)
        self.train = train


class MNIST(OfficialImages):
    """Handwritten digits, 28x28 grey (LeCun, Cortes, Burges)."""

    load = staticmethod(load_mnist)
    names = DIGITS


class FashionMNIST(OfficialImages):
    """Zalando's pictures of clothes, 28x28 grey (Xiao et al. 2017, arXiv:1708.07747)."""

    load = staticmethod(load_fashion_mnist)
    names = FASHION_CLASSES


class CIFAR10(OfficialImages):
    """Small colour photographs, 32x32 (Krizhevsky 2009)."""

    load = staticmethod(load_cifar10)
    names = CIFAR10_CLASSES
