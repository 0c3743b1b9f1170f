"""Tensors as text, the way PyTorch prints them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import read
from ganglion.errors import ArgumentError, TraceError

if TYPE_CHECKING:
    from ganglion.tensor import Tensor

Array = np.ndarray[Any, Any]
PREFIX = "tensor("
_UNSHOWN = (dt.int64, dt.bool_)  # dtypes that the digits tell


@dataclass(frozen=True)
class Options:
    """How tensors print."""

    precision: int = 4  # digits after the point
    threshold: int = 1000  # elements above which the middle is left out
    edgeitems: int = 3  # what is kept at each end of a dimension then
    linewidth: int = 80
    sci_mode: bool | None = None  # None: as the values need


_PROFILES = {
    "default": Options(),
    "short": Options(precision=2, edgeitems=2),
    "full": Options(threshold=2**62),
}
_options = Options()


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print; a profile is one of default, short, full. What is None stays."""
    global _options
    if profile is not None and profile not in _PROFILES:
        raise ArgumentError(f"a print profile is one of {', '.join(_PROFILES)}, got {profile!r}")
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    base = _options if profile is None else _PROFILES[profile]
    _options = replace(base, sci_mode=sci_mode, **changed)


class _Format:
    """One width and notation for all numbers of a tensor."""

    def __init__(self, shown: Array) -> None:
        self.spec = self.end = ""
        texts = []
        if shown.dtype.kind == "f":
            usual = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
            self.spec, self.end = _notation(usual)
            texts = [self._text(x) for x in usual.tolist()]
        else:
            texts = [self._text(x) for x in shown.ravel().tolist()]
        self.width = max(map(len, texts), default=1)

    def _text(self, x: Any) -> str:
        text = format(x, self.spec) if self.spec else str(x)
        return text if text.lstrip("-") in ("inf", "nan") else text + self.end

    def __call__(self, x: Any) -> str:
        return self._text(x).rjust(self.width)


def _notation(values: Array) -> tuple[str, str]:
    """The format of finite nonzero floats, and what follows whole numbers."""
    whole = bool((values == np.ceil(values)).all())
    sizes = np.abs(values)
    low, high = (sizes.min(), sizes.max()) if len(sizes) else (1, 1)
    wide = high / low > 1000 or high > 1e8 or (not whole and low < 1e-4)
    scientific = wide if _options.sci_mode is None else _options.sci_mode
    if scientific:
        return f".{_options.precision}e", ""
    return (".0f", ".") if whole else (f".{_options.precision}f", "")


def _edges(x: Array) -> Array:
    """The elements that are shown when the middle is left out."""
    keep = _options.edgeitems
    for dim, size in enumerate(x.shape):
        if size > 2 * keep:
            x = np.take(x, [*range(keep), *range(size - keep, size)], axis=dim)
    return x


def _outer(x: Array, short: bool) -> list[Any]:
    """The items of the first dimension, with None for what is left out."""
    keep = _options.edgeitems
    if short and len(x) > 2 * keep:
        return [*x[:keep], None, *x[-keep:]]
    return list(x)


def _block(x: Array, indent: int, short: bool, show: _Format) -> str:
    if x.ndim == 0:
        return show(x.item())
    if x.ndim == 1:
        return _line(x, indent, short, show)
    items = _outer(x, short)
    blocks = ["..." if item is None else _block(item, indent + 1, short, show) for item in items]
    between = "," + "\n" * (x.ndim - 1) + " " * (indent + 1)
    return f"[{between.join(blocks)}]"


def _line(x: Array, indent: int, short: bool, show: _Format) -> str:
    items = [" ..." if item is None else show(item.item()) for item in _outer(x, short)]
    per_line = max(1, (_options.linewidth - indent) // (show.width + 2))
    lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _digits(x: Array) -> str:
    if not x.size:
        return "[]"
    if x.dtype.kind not in "biuf" or x.dtype == np.float16:
        x = x.astype(np.float32)  # bfloat16 and float16 have float32's digits
    short = x.size > _options.threshold
    return _block(x, len(PREFIX), short, _Format(_edges(x) if short else x))


def _suffixes(x: Tensor) -> list[str]:
    found = []
    shape, dtype = x._data.shape, x.dtype
    empty = 0 in shape
    if empty and len(shape) != 1:
        found.append(f"size={tuple(shape)}")
    if dtype is not dt.get_default_dtype() and (empty or dtype not in _UNSHOWN):
        found.append(f"dtype={dtype}")
    if x.grad_fn is not None:
        found.append(f"grad_fn={x.grad_fn}")
    elif x.requires_grad:
        found.append("requires_grad=True")
    return found


def show_tensor(input: Tensor) -> str:
    """The tensor as PyTorch prints it; a traced one shows its type, as it has no values yet."""
    try:
        text = PREFIX + _digits(read(input))
    except TraceError:
        text = f"{PREFIX}<traced>, size={tuple(input._data.shape)}"
    column = len(text) - text.rfind("\n") + 1
    for suffix in _suffixes(input):
        if column + len(suffix) + 2 > _options.linewidth:
            text, column = f"{text},\n{' ' * len(PREFIX)}{suffix}", len(PREFIX) + len(suffix)
        else:
            text, column = f"{text}, {suffix}", column + len(suffix) + 2
    return text + ")"


def format_tensor(input: Tensor, spec: str) -> str:
    """``format(x, spec)``: a 0-d tensor as its number, any other as its text."""
    if input._data.shape == ():
        return format(input.item(), spec)
    return object.__format__(input, spec)
