"""Gradients of composites that have no rule of their own: differentiate the decomposition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

from ganglion.dispatch import mode
from ganglion.gradmode import enable_grad
from ganglion.ops.record import Saved


def through(decompose: Callable[..., Any]) -> Callable[..., Sequence[Any]]:
    """A joint rule (``saves="*"``) that replays ``decompose`` and walks back through it."""

    def rule(s: Saved, *grads: Any) -> Sequence[Any]:
        create = mode.grad
        inputs = s.inputs
        wanted = [x for x, need in zip(inputs, s.needs, strict=True) if need]
        with enable_grad():
            for x in wanted:
                if not x.requires_grad:
                    x.requires_grad_()
            outs = decompose(*inputs, **s.params)
            outs = outs if isinstance(outs, tuple) else (outs,)
        flowing = [o.requires_grad and g is not None for o, g in zip(outs, grads, strict=True)]
        pairs = list(compress(zip(outs, grads, strict=True), flowing))
        found = iter(
            wanted[0]._engine.grad(
                [o for o, _ in pairs], wanted, [g for _, g in pairs],
                create_graph=create, allow_unused=True,
            )
        )  # fmt: skip
        return [next(found) if need else None for need in s.needs]

    return rule
