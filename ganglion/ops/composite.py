"""Gradients of composites that have no rule of their own: differentiate the decomposition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from ganglion.dispatch import mode
from ganglion.gradmode import enable_grad
from ganglion.ops.movement import PERMUTE
from ganglion.ops.record import Saved

if TYPE_CHECKING:
    from ganglion.tensor import Tensor


def _start(x: Tensor, create: bool) -> Tensor:
    """``x`` as the start of a history of its own: inputs may depend on each other."""
    if create:
        return PERMUTE(x, dims=tuple(range(x.ndim)))  # type: ignore[no-any-return]
    return x.requires_grad_()


def through(decompose: Callable[..., Any]) -> Callable[..., Sequence[Any]]:
    """A joint rule (``saves="*"``) that replays ``decompose`` and walks back through it."""

    def rule(s: Saved, *grads: Any) -> Sequence[Any]:
        create = mode.grad
        with enable_grad():
            pairs = zip(s.inputs, s.needs, strict=True)
            inputs = [_start(x, create) if need else x for x, need in pairs]
            wanted = list(compress(inputs, s.needs))
            outs = decompose(*inputs, **s.params)
            outs = outs if isinstance(outs, tuple) else (outs,)
        flowing = [o.requires_grad and g is not None for o, g in zip(outs, grads, strict=True)]
        found = iter(
            wanted[0]._engine.grad(
                list(compress(outs, flowing)), wanted, list(compress(grads, flowing)),
                create_graph=create, allow_unused=True,
            )
        )  # fmt: skip
        return [next(found) if need else None for need in s.needs]

    return rule
