"""Writing plain values as TOML; Python reads it with tomllib."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ganglion.errors import ArgumentTypeError

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(values: Mapping[str, Any]) -> str:
    """The text of nested dicts of texts, numbers, booleans and lists; None is left out.

    Errors: ``ArgumentTypeError`` naming the key of anything else.
    """
    return "\n".join(_table(values, ())) + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Lines of a table: its own values, then the tables in it."""
    if path:
        yield f"\n[{'.'.join(map(_key, path))}]"
    for key, value in values.items():
        if value is not None and not isinstance(value, Mapping):
            yield f"{_key(key)} = {_value(value, (*path, key))}"
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _table(value, (*path, key))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, path: tuple[str, ...]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(item, path) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(k)} = {_value(v, (*path, k))}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    raise ArgumentTypeError(
        f"{'.'.join(path)} is a {type(value).__name__}; config.toml holds texts, numbers, "
        "booleans, lists and tables"
    )
