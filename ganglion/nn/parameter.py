"""Parameter: a tensor that modules register and optimizers update."""

from __future__ import annotations

from typing import Any, Self

from ganglion.creation import empty
from ganglion.errors import ArgumentTypeError
from ganglion.tensor import Tensor


class Parameter(Tensor):
    """A tensor that, assigned to a module's attribute, joins ``module.parameters()``."""

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Self:
        if data is None:
            data = empty(0)
        if not isinstance(data, Tensor):
            raise ArgumentTypeError(f"Parameter takes a tensor, got {type(data).__name__}")
        made = object.__new__(cls)
        made._data, made._storage = data._data, data._storage
        made._leaf = requires_grad
        if requires_grad:
            made.requires_grad_()
        return made

    def __init__(self, data: Tensor | None = None, requires_grad: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            copy = type(self)(self.data.clone(), self.requires_grad)
            copy._grad = None if self._grad is None else self._grad.clone()
            copy._spent = self._spent
            memo[id(self)] = copy
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return Parameter, (self.data, self._leaf)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Tensor):
    """A tensor that, assigned to a module's attribute, joins ``module.buffers()``."""

    persistent: bool

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Self:
        data = empty(0) if data is None else data
        made = object.__new__(cls)
        made._data, made._storage, made.persistent = data._data, data._storage, persistent
        return made

    def __init__(self, data: Tensor | None = None, *, persistent: bool = True) -> None:
        pass
