"""Recurrent layers backward: the walk back in time, to the slopes of what entered the gates.

For some rows of the batch and a panel of hidden units, the slopes of the step after this one times
the weights are added to the gradient given for the state, and the cell's arithmetic follows. The
gradients of weights, biases and inputs are products and sums over all steps: not done here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ganglion.compiler.kernel import Layout, Plan, packed
from ganglion.compiler.kernels.buffers import padded
from ganglion.compiler.kernels.cells import GRU, LSTM, RNN, Cell, Seen
from ganglion.compiler.kernels.sequence import Draft, Layer, Walk, walk_kernel
from ganglion.compiler.kernels.tile import AVX512, Registers, tile, zeros
from ganglion.compiler.target import Target
from ganglion.compiler.text import BYTES, Index, Reg, const, vector


class Place(NamedTuple):
    """A tile of a step back: which step, which panel of units, which rows."""

    back: Index
    number: Index
    units: int
    row: Index
    rows: int


class Backward(Walk):
    """Emits the walk.

    ``carry`` is what a step passes to the one before it past the weights; ``arrived`` the gradient
    of a state that is a projection. Scratch: the gradient of the cell's result, for one tile.
    """

    def run(self) -> None:
        layer, rows = self.layer, self.layer.back_rows
        if "carry" in self.named:
            self.each_block(rows, self.start)
        self.step(0)
        self.code.guarded_loop(1, layer.steps, 1, self.step)
        if "dc" in self.named:
            self.each_block(rows, lambda row, count: self.copy_rows(row, count, "carry", "dc"))
        if "dh" in self.named:
            self.panels(layer.steps, layer.hidden, self.finish)

    @property
    def zero(self) -> Reg:
        return const(0, vector(self.layer.element, self.layer.lanes))

    def ago(self, back: Index) -> Index:
        """Where the step that is ``back`` before the last stands in a sequence."""
        return self.time(self.minus(self.layer.steps - 1, back))

    def start(self, row: Index, rows: int) -> None:
        """Nothing is carried at first."""

        def one(r: Index) -> None:
            for column in range(0, self.layout("carry").shape[1], self.layer.lanes):
                self.store(self.zero, "carry", self.code.add(row, r), column)

        self.code.loop(0, rows, 1, (), one)

    def step(self, back: Index) -> None:
        """A step back; ``back`` counts them."""
        if "projection" in self.named:
            self.panels(back, self.layer.out, self.arrive)
        self.panels(back, self.layer.hidden, self.block)

    def panels(self, back: Index, total: int, body: Callable[[Place], None]) -> None:
        """``body`` for all tiles of a step."""

        def panel(number: Index, units: int) -> None:
            self.each_block(
                self.layer.back_rows,
                lambda row, rows: body(Place(back, number, units, row, rows)),
            )

        self.parts(total, self.layer.panel, panel)

    def spots(self, place: Place) -> Iterator[tuple[int, int, Index, Index, int]]:
        """The vectors of a tile: row and vector in it, row and unit, how many units."""
        for r in range(place.rows):
            for v in range(self.layer.panel // self.layer.lanes):
                column = v * self.layer.lanes
                unit = self.code.add(self.code.mul(place.number, self.layer.panel), column)
                yield r, v, self.code.add(place.row, r), unit, place.units - column

    # --- gradients of states --------------------------------------------------------------------

    def gradient(self, place: Place) -> Registers:
        """Of the state: what is given, and what the step after this one sends."""
        code, layer = self.code, self.layer
        vectors = layer.panel // layer.lanes
        sums = zeros(place.rows, vectors, self.zero.type)
        for r, v, row, unit, count in self.spots(place):
            if "dy" in self.named and place.back != layer.steps:
                sums[r][v] = self.load("dy", self.ago(place.back), row, unit, count=count)
            if "dh" in self.named:
                carried = self.load("carry", row, unit, count=layer.lanes)
                sums[r][v] = code.fadd(sums[r][v], carried)
        if place.back == 0:
            return sums
        pre = "pre_h" if "pre_h" in self.named else "pre"
        left = self.at(pre, self.ago(self.minus(place.back, 1)), place.row)
        depth = layer.cell.gates * layer.hidden
        return self.product(place, depth, left, self.layout(pre).strides[1:], "weights", sums)

    def product(
        self, place: Place, depth: int, left: Reg, strides: Sequence[int], weights: str,
        sums: Registers,
    ) -> Registers:  # fmt: skip
        """Add rows times a panel of weights."""
        panel, (row, along) = self.layer.panel, strides
        return tile(
            self.code, [r * row for r in range(place.rows)], panel // self.layer.lanes, depth,
            left, along, self.at(weights, place.number), panel,
            initial=sums, element=self.layer.element,
        )  # fmt: skip

    def arrive(self, place: Place) -> None:
        """The gradient of a projected state."""
        sums = self.gradient(place)
        for r, v, row, unit, _ in self.spots(place):
            self.store(sums[r][v], "arrived", row, unit, count=self.layer.lanes)

    def finish(self, place: Place) -> None:
        """The gradient of the first state."""
        sums = self.gradient(place)
        for r, v, row, unit, count in self.spots(place):
            self.store(sums[r][v], "dh", row, unit, count=count)

    # --- the cell -------------------------------------------------------------------------------

    def block(self, place: Place) -> None:
        """A step back of some rows and a panel of units; the tile goes through scratch."""
        code, layer = self.code, self.layer
        if "projection" in self.named:
            left, strides = self.at("arrived", place.row), self.layout("arrived").strides
            sums = zeros(place.rows, layer.panel // layer.lanes, self.zero.type)
            sums = self.product(place, layer.out, left, strides, "projection", sums)
        else:
            sums = self.gradient(place)
        for r, values in enumerate(sums):
            for v, value in enumerate(values):
                start = r * layer.panel + v * layer.lanes
                code.store(value, code.at_index(self.scratch, start, layer.element))
        code.loop(0, place.rows, 1, (), lambda r: self.cell_row(place, r))

    def cell_row(self, place: Place, r: Index) -> None:
        """One row of a tile."""
        code, layer = self.code, self.layer
        first = place._replace(row=code.add(place.row, r), rows=1)
        tile_row = code.at_index(self.scratch, code.mul(r, layer.panel), layer.element)
        for _, v, row, unit, count in self.spots(first):
            if count > 0:
                at = code.at_index(tile_row, v * layer.lanes, layer.element)
                self.cell(place.back, row, unit, count, code.load(at, self.zero.type))

    def cell(self, back: Index, row: Index, unit: Index, count: int, dh: Reg) -> None:
        """The cell's arithmetic for a vector of units of one row."""
        code, layer, time = self.code, self.layer, self.ago(back)
        carry = before = c = dh
        if "carry" in self.named:
            carry = self.load("carry", row, unit, count=layer.lanes)
            before = self.earlier(back, row, unit, count)
        if "cells" in self.named:
            c = self.load("cells", time, row, unit, count=count)
        if "dcells" in self.named:
            carry = code.fadd(carry, self.load("dcells", time, row, unit, count=count))
        gates = self.each_gate(layer.cell.saved, time, row, unit, count)
        dgates = None
        if "dgates" in self.named:
            dgates = self.each_gate("dgates", time, row, unit, count)
        found = layer.cell.backward(code, Seen(dh, carry, dgates, c, before, gates))
        if found.carry is not None:
            self.store(found.carry, "carry", row, unit, count=layer.lanes)
        for name, slopes in (("pre", found.by_h), ("pre_x", found.by_x), ("pre_h", found.by_h)):
            for gate, slope in enumerate(slopes if name in self.named else ()):
                here = code.add(unit, gate * layer.hidden)
                self.store(slope, name, time, row, here, count=count)

    def each_gate(self, name: str, time: Index, row: Index, unit: Index, count: int) -> list[Reg]:
        """A vector of units of every gate."""
        hidden = self.layer.hidden
        starts = range(0, self.layout(name).shape[-1], hidden)
        return [self.load(name, time, row, self.code.add(unit, g), count=count) for g in starts]

    def earlier(self, back: Index, row: Index, unit: Index, count: int) -> Reg:
        """What the step started from: the first memory or state, or that of the step before."""
        code, layer = self.code, self.layer
        first = self.load(layer.cell.first, row, unit, count=count)
        if layer.steps == 1:
            return first
        further = code.minimum(code.add(back, 1), layer.steps - 1)
        found = self.load(layer.cell.history, self.ago(further), row, unit, count=count)
        return code.select(code.compare("eq", back, layer.steps - 1), first, found)


def lstm_layer_grad(
    dy: Layout | None, dcells: Layout | None, dgates: Layout | None, c: Layout, cells: Layout,
    gates: Layout, w_hh: Layout, w_hr: Layout | None, pre: Layout, dc: Layout, *,
    reverse: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """Slopes ``pre`` (T, B, 4H) of what entered an LSTM's gates, and the gradient of c.

    Shapes and names are those of the record ``lstm_layer_grad``; any strides. Caller's operands:
    those given, in this order.
    """
    given = {
        "dy": dy, "dcells": dcells, "dgates": dgates, "c": c, "cells": cells, "gates": gates,
        "w_hh": w_hh, "w_hr": w_hr, "pre": pre, "dc": dc,
    }  # fmt: skip
    return _walk_back(LSTM, given, cells, reverse, target)


def gru_layer_grad(
    dy: Layout | None, dgates: Layout | None, h: Layout, y: Layout, gates: Layout, w_hh: Layout,
    pre_x: Layout, pre_h: Layout, dh: Layout, *, reverse: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """Slopes (T, B, 3H) of what x and what h added to a GRU's gates, and the gradient of h.

    Shapes and names are those of the record ``gru_layer_grad``; any strides. Caller's operands:
    those given, in this order.
    """
    given = {
        "dy": dy, "dgates": dgates, "h": h, "y": y, "gates": gates, "w_hh": w_hh,
        "pre_x": pre_x, "pre_h": pre_h, "dh": dh,
    }  # fmt: skip
    return _walk_back(GRU, given, y, reverse, target)


def rnn_layer_grad(
    dy: Layout, y: Layout, w_hh: Layout, pre: Layout, *,
    reverse: bool = False, nonlinearity: str = "tanh", target: Target = AVX512,
) -> Plan:  # fmt: skip
    """Slopes (T, B, H) of what the nonlinearity of a plain recurrent layer took.

    Shapes and names are those of the record ``rnn_layer_grad``; any strides. Caller's operands:
    those given, in this order.
    """
    given: dict[str, Layout | None] = {"dy": dy, "y": y, "w_hh": w_hh, "pre": pre}
    return _walk_back(RNN[nonlinearity], given, y, reverse, target)


def _walk_back(
    cell: Cell, given: dict[str, Layout | None], states: Layout, reverse: bool, target: Target
) -> Plan:
    """``states``: any sequence (T, B, H)."""
    draft = Draft({name: layout for name, layout in given.items() if layout is not None})
    steps, batch, hidden = states.shape
    w_hh = draft.operands["w_hh"]
    layer = Layer(cell, states.dtype, steps, batch, hidden, w_hh.shape[1], reverse, target)
    draft.pack("w_hh", w_hh, layer.panel, "weights")
    written = ["pre", "pre_x", "pre_h", "dc", "dh", "carry", "arrived"]
    if "w_hr" in draft.operands:
        draft.pack("w_hr", draft.operands["w_hr"], layer.panel, "projection")
        wide = padded(layer.out, layer.panel)
        draft.temporary("arrived", packed(layer.dtype, (batch, wide)))
    if cell.history:
        wide = padded(hidden, layer.panel)
        draft.temporary("carry", packed(layer.dtype, (batch, wide)))
    names = [n for n in (*given, *draft.temporaries) if n not in ("w_hh", "w_hr")]
    flops = 2 * steps * batch * cell.gates * hidden * layer.out
    room = layer.back_rows * layer.panel * BYTES[layer.element]
    walk_kernel(
        f"{cell.name}_grad", layer, draft, names, written, layer.back_rows, flops, Backward, room
    )
    return draft.plan()
