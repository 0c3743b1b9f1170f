"""Modules that hold modules: Sequential, ModuleList, ModuleDict, and lists of parameters."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Self, overload

from ganglion.errors import ArgumentTypeError, IndexingError
from ganglion.nn.module import Module


class _Listed(Module):
    """Modules named by their position."""

    def _key(self, index: int) -> str:
        size = len(self)
        i = index.__index__()
        if not -size <= i < size:
            raise IndexingError(f"index {i} is out of range for {size} modules")
        return list(self._modules)[i % size]

    def _renumber(self, modules: Iterable[Module]) -> None:
        self._modules.clear()
        for i, module in enumerate(modules):
            self.register_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self._sliced(index)
        return self._modules[self._key(index)]

    def _sliced(self, index: slice) -> Any:
        return type(self)(list(self)[index])  # type: ignore[call-arg]

    def __setitem__(self, index: int, module: Module) -> None:
        self.register_module(self._key(index), module)

    def __delitem__(self, index: int | slice) -> None:
        kept = list(self)
        del kept[index]
        self._renumber(kept)

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before ``index``."""
        modules = list(self)
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def append(self, module: Module) -> Self:
        """Add a module at the end."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Add modules at the end."""
        for module in modules:
            self.append(module)
        return self

    def pop(self, key: int) -> Any:
        """Remove and return a module."""
        module = self[key]
        del self[key]
        return module


class Sequential(_Listed):
    """Modules called one after the other: ``Sequential(a, b)`` or ``Sequential(OrderedDict)``."""

    @overload
    def __init__(self, *modules: Module) -> None: ...
    @overload
    def __init__(self, modules: OrderedDict[str, Module], /) -> None: ...
    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = modules[0].items() if _is_dict(modules) else enumerate(modules)
        for name, module in named:
            self.register_module(str(name), module)

    def _sliced(self, index: slice) -> Sequential:
        return Sequential(OrderedDict(list(self._modules.items())[index]))  # type: ignore[arg-type]

    def forward(self, input: Any) -> Any:
        """The last module's output."""
        for module in self._modules.values():
            input = module(input)  # type: ignore[misc]
        return input


def _is_dict(modules: tuple[Any, ...]) -> bool:
    return len(modules) == 1 and isinstance(modules[0], Mapping)


class ModuleList(_Listed):
    """A list whose modules are registered."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __repr__(self) -> str:
        """Neighbours that look alike share a line."""
        if not self._modules:
            return "ModuleList()"
        lines, first = [], 0
        for text, alike in groupby(map(repr, self)):
            last = first + len(list(alike)) - 1
            shown = text.replace("\n", "\n  ")
            many = f"({first}-{last}): {last - first + 1} x {shown}"
            lines.append(many if last > first else f"({first}): {shown}")
            first = last + 1
        return "ModuleList(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """A dictionary whose modules are registered."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.register_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove every module."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Remove and return a module."""
        return self._modules.pop(key)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._modules.keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, module) pairs."""
        return self._modules.items()

    def values(self) -> Iterable[Any]:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add or replace modules from a mapping or pairs."""
        pairs = modules.items() if hasattr(modules, "items") else modules
        for key, module in pairs:
            if not isinstance(key, str):
                raise ArgumentTypeError(f"ModuleDict keys must be strings, got {key!r}")
            self[key] = module
