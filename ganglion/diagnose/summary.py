"""``summary(model, shape)``: layers, output shapes, parameters, FLOPs and memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganglion.dispatch import Listener, listening, mode
from ganglion.dtypes import dtype
from ganglion.gradmode import no_grad
from ganglion.history import Handle
from ganglion.nn import Module
from ganglion.ops.create import zeros
from ganglion.ops.record import Op
from ganglion.shapes import Meta, Shape
from ganglion.tensor import Tensor
from ganglion.tree import leaves


@dataclass
class Layer:
    """One call of a module: FLOPs and output bytes are its own, without its children's."""

    path: str
    type: str
    depth: int
    output: tuple[Shape, ...] = ()
    parameters: int = 0
    trainable: int = 0
    flops: int = 0
    activation_bytes: int = 0


@dataclass(frozen=True)
class Summary:
    """What a model is, measured by running it once on zeros. Memory is in bytes."""

    model: str
    input: tuple[Shape, ...]
    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    parameter_bytes: int
    flops: int = field(default=0)
    activation_bytes: int = field(default=0)

    def __str__(self) -> str:
        rows = [("layer", "type", "output", "parameters", "FLOPs")]
        rows += [
            (
                "  " * layer.depth + (layer.path.rpartition(".")[2] or self.model),
                layer.type,
                " ".join(str(tuple(shape)) for shape in layer.output),
                f"{layer.parameters:,}",
                f"{layer.flops:,}",
            )
            for layer in self.layers
        ]
        return "\n".join([*_table(rows), "", *self._totals()])

    def _totals(self) -> list[str]:
        frozen = self.parameters - self.trainable
        return [
            f"input             {' '.join(str(tuple(s)) for s in self.input)}",
            f"parameters        {self.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else ""),
            f"parameter memory  {_size(self.parameter_bytes)}",
            f"activations       {_size(self.activation_bytes)}",
            f"forward           {self.flops:,} FLOPs",
        ]


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        left = [cell.ljust(w) for cell, w in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(w) for cell, w in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join(left + right))
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _size(count: int) -> str:
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:,.1f} {unit}" if unit != "B" else f"{count} B"


class _Meter:
    """Listens at the door and charges every op to the module that is running."""

    def __init__(self, behind: Listener) -> None:
        self.behind = behind
        self.layers: list[Layer] = []
        self.running: list[Layer] = []

    def bind(self, op: Op, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> Any:
        """Run the op, then count its FLOPs and the bytes it made."""
        out = self.behind.bind(op, inputs, params)
        results = out if isinstance(out, tuple) else (out,)
        if self.running:
            self.running[-1].flops += flops(op, inputs, params, results)
            if not op.view:
                made = sum(r.numel() * r.element_size() for r in results)
                self.running[-1].activation_bytes += made
        return out

    def write(self, target: Tensor, value: Tensor) -> Tensor:
        """Stores cost no FLOPs."""
        return self.behind.write(target, value)

    def read(self, tensor: Tensor) -> Any:
        """As the listener behind."""
        return self.behind.read(tensor)

    def enter(self, path: str, module: Module) -> None:
        """A module starts."""
        own = list(module.parameters(recurse=False))
        layer = Layer(
            path,
            type(module).__name__,
            len(self.running),
            parameters=sum(p.numel() for p in own),
            trainable=sum(p.numel() for p in own if p.requires_grad),
        )
        self.layers.append(layer)
        self.running.append(layer)

    def leave(self, out: Any) -> None:
        """A module is done."""
        found = [x for x in leaves(out) if isinstance(x, Tensor)]
        self.running.pop().output = tuple(tuple(x.shape) for x in found)


def flops(op: Op, inputs: Sequence[Any], params: Mapping[str, Any], results: Sequence[Any]) -> int:
    """Floating-point operations of one call: the record's count, else one per output element."""
    if op.flops is not None:
        metas = [Meta(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x for x in inputs]
        return int(op.flops(*metas, **params))
    if op.kind == "elementwise":
        return math.prod(results[0].shape)
    if op.kind == "reduce" and isinstance(inputs[0], Tensor):
        return math.prod(inputs[0].shape)
    return 0


def summary(
    model: Module, *shapes: Sequence[int], dtypes: Sequence[dtype] | None = None
) -> Summary:
    """Run ``model`` in inference mode on zeros of ``shapes`` (batch included) and report.

    ``dtypes`` gives the inputs' dtypes, float32 by default. The model's mode is kept.
    """
    kinds: Sequence[dtype | None] = dtypes or [None] * len(shapes)
    inputs = [zeros(tuple(s), dtype=d) for s, d in zip(shapes, kinds, strict=True)]
    meter = _Meter(mode.listener)
    handles = _attach(meter, model)
    was_training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with no_grad(), listening(meter):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in was_training.items():
            module.training = training
    parameters = list(model.parameters())
    return Summary(
        type(model).__name__,
        tuple(tuple(s) for s in shapes),
        tuple(meter.layers),
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() * p.element_size() for p in parameters),
        sum(layer.flops for layer in meter.layers),
        sum(layer.activation_bytes for layer in meter.layers),
    )


def _attach(meter: _Meter, model: Module) -> list[Handle]:
    handles = []
    for path, module in model.named_modules():
        before = lambda m, args, path=path: meter.enter(path, m)  # noqa: E731
        handles.append(module.register_forward_pre_hook(before))
        handles.append(module.register_forward_hook(lambda m, args, out: meter.leave(out)))
    return handles
