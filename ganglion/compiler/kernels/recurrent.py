"""Recurrent layers: LSTM, GRU and the plain one, a whole sequence in one direction.

For some rows of the batch and a group of hidden units, all sums of the gates stand in registers:
first the biases, then inputs times weights, then states times weights are added, and the cell's
arithmetic follows at once. The weights were brought into that order before (``pack_gates``).
"""

from __future__ import annotations

from typing import NamedTuple

from ganglion.compiler.kernel import Layout, Plan, packed
from ganglion.compiler.kernels.buffers import padded
from ganglion.compiler.kernels.cells import GRU, LSTM, RNN, Cell, State
from ganglion.compiler.kernels.sequence import (
    Draft,
    Layer,
    Walk,
    pack_gates,
    turned,
    walk_kernel,
)
from ganglion.compiler.kernels.tile import AVX512, tile
from ganglion.compiler.target import Target
from ganglion.compiler.text import Index, Reg, const, vector

Sums = list[list[Reg]]  # by sum, then by vector of units


class Moment(NamedTuple):
    """A step: where it stands in sequences, and which of the two states it reads and writes."""

    time: Index
    before: Index
    after: Index


class Forward(Walk):
    """Emits the walk.

    ``states`` holds the state before and after a step, ``memory`` the LSTM's cell, ``outs`` the
    cell's result before a projection: without gaps, padded to whole tiles.
    """

    def run(self) -> None:
        self.each_block(self.layer.rows, self.start)
        self.code.loop(0, self.layer.steps, 1, (), self.step)

    def start(self, row: Index, rows: int) -> None:
        """The first states of some rows."""
        self.copy_rows(row, rows, "h", "states", 0)
        if "c" in self.named:
            self.copy_rows(row, rows, "c", "memory")

    def step(self, step: Index) -> None:
        layer = self.layer
        before = self.code.divmod(step, 2)[1]
        moment = Moment(self.time(step), before, self.minus(1, before))

        def group(number: Index, units: int) -> None:
            biases = self.biases(number, units)
            self.each_block(
                layer.rows, lambda row, rows: self.block(moment, number, units, row, rows, biases)
            )

        self.parts(layer.hidden, layer.width, group)
        if "projection" in self.named:
            self.parts(layer.out, layer.panel, lambda n, size: self.project(moment, n, size))

    def biases(self, number: Index, units: int) -> Sums:
        """What the sums of every row start from."""
        layer, cell = self.layer, self.layer.cell
        zero = const(0, vector(layer.element, layer.lanes))
        found = [[zero] * layer.wide for _ in range(cell.sums)]
        for name, goes in (("b_ih", cell.by_x), ("b_hh", cell.by_h)):
            for gate, s in enumerate(goes if name in self.named else ()):
                for v in range(layer.wide):
                    place = self.unit(number, v * layer.lanes, gate)
                    bias = self.load(name, place, count=units - v * layer.lanes)
                    found[s][v] = self.code.fadd(found[s][v], bias)
        return found

    def block(
        self, moment: Moment, number: Index, units: int, row: Index, rows: int, biases: Sums
    ) -> None:
        """A step of some rows and a group of units."""
        layer = self.layer
        sums = [[list(vectors) for vectors in biases] for _ in range(rows)]
        inputs = self.layout("x").shape[-1]
        x, h = self.layout("x").strides[1:], self.layout("states").strides[1:]
        self.multiply(sums, layer.cell.by_x, inputs, self.at("x", moment.time, row), x, number, 0)
        before = self.at("states", moment.before, row)
        self.multiply(sums, layer.cell.by_h, layer.out, before, h, number, inputs)
        for r, row_sums in enumerate(sums):
            for v in range(layer.wide):
                self.cell(moment, number, units, self.code.add(row, r), v, [s[v] for s in row_sums])

    def multiply(
        self, sums: list[Sums], goes: tuple[int, ...], depth: int, left: Reg,
        strides: tuple[int, ...], number: Index, first: int,
    ) -> None:  # fmt: skip
        """Add inputs or states times their weights to the sums of their gates."""
        layer, (by_row, along) = self.layer, strides
        added = tile(
            self.code, [r * by_row for r in range(len(sums))], layer.cell.gates * layer.wide, depth,
            left, along, self.at("weights", number, first), layer.cell.gates * layer.width,
            initial=[[v for s in goes for v in row[s]] for row in sums], element=layer.element,
        )  # fmt: skip
        for row, vectors in zip(sums, added, strict=True):
            for gate, s in enumerate(goes):
                row[s] = vectors[gate * layer.wide : (gate + 1) * layer.wide]

    def cell(
        self, moment: Moment, number: Index, units: int, row: Index, v: int, sums: list[Reg]
    ) -> None:
        """The cell's arithmetic for a vector of units of one row."""
        column = v * self.layer.lanes
        unit, count = self.unit(number, column), units - column
        whole = self.layer.lanes  # buffers of our own have room for whole vectors
        h = self.load("states", moment.before, row, unit, count=whole)
        c = self.load("memory", row, unit, count=whole) if "c" in self.named else None
        found = self.layer.cell.forward(self.code, sums, State(h, c))
        if found.c is not None:
            self.store(found.c, "memory", row, unit, count=whole)
            self.store(found.c, "cells", moment.time, row, unit, count=count)
        for gate, value in enumerate(found.gates):
            place = self.unit(number, column, gate)
            self.store(value, "gates", moment.time, row, place, count=count)
        if "projection" in self.named:
            self.store(found.h, "outs", row, unit, count=whole)
            return
        self.store(found.h, "states", moment.after, row, unit, count=whole)
        self.store(found.h, "y", moment.time, row, unit, count=count)

    def project(self, moment: Moment, number: Index, columns: int) -> None:
        """A panel of the state's features, from what the cell gave."""
        layer, code = self.layer, self.code

        def block(row: Index, rows: int) -> None:
            stride = self.layout("outs").strides[0]
            found = tile(
                code, [r * stride for r in range(rows)], layer.panel // layer.lanes, layer.hidden,
                self.at("outs", row), 1, self.at("projection", number), layer.panel,
                element=layer.element,
            )  # fmt: skip
            for r, values in enumerate(found):
                for v, value in enumerate(values):
                    at, column = code.add(row, r), v * layer.lanes
                    place = code.add(code.mul(number, layer.panel), column)
                    self.store(value, "states", moment.after, at, place, count=layer.lanes)
                    self.store(value, "y", moment.time, at, place, count=columns - column)

        self.each_block(layer.rows, block)


def lstm_layer(
    x: Layout, h: Layout, c: Layout, w_ih: Layout, w_hh: Layout, b_ih: Layout | None,
    b_hh: Layout | None, w_hr: Layout | None, y: Layout, cells: Layout, gates: Layout, *,
    reverse: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """An LSTM layer: x (T, B, I) to states y (T, B, P), cells (T, B, H) and gates (T, B, 4H).

    Shapes, names and formulas are those of the record ``lstm_layer``; any strides. Caller's
    operands: those given, in this order.
    """
    given = {
        "x": x, "h": h, "c": c, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh,
        "w_hr": w_hr, "y": y, "cells": cells, "gates": gates,
    }  # fmt: skip
    return _layer(LSTM, given, c.shape[1], reverse, target)


def gru_layer(
    x: Layout, h: Layout, w_ih: Layout, w_hh: Layout, b_ih: Layout | None, b_hh: Layout | None,
    y: Layout, gates: Layout, *, reverse: bool = False, target: Target = AVX512,
) -> Plan:  # fmt: skip
    """A GRU layer: x (T, B, I) to states y (T, B, H) and gates (T, B, 4H).

    Shapes, names and formulas are those of the record ``gru_layer``; any strides. Caller's
    operands: those given, in this order.
    """
    given = {
        "x": x, "h": h, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh,
        "y": y, "gates": gates,
    }  # fmt: skip
    return _layer(GRU, given, h.shape[1], reverse, target)


def rnn_layer(
    x: Layout, h: Layout, w_ih: Layout, w_hh: Layout, b_ih: Layout | None, b_hh: Layout | None,
    y: Layout, *, reverse: bool = False, nonlinearity: str = "tanh", target: Target = AVX512,
) -> Plan:  # fmt: skip
    """A plain recurrent layer: x (T, B, I) to states y (T, B, H).

    Shapes, names and formulas are those of the record ``rnn_layer``; any strides. Caller's
    operands: those given, in this order.
    """
    given = {"x": x, "h": h, "w_ih": w_ih, "w_hh": w_hh, "b_ih": b_ih, "b_hh": b_hh, "y": y}
    return _layer(RNN[nonlinearity], given, h.shape[1], reverse, target)


def _layer(
    cell: Cell, given: dict[str, Layout | None], hidden: int, reverse: bool, target: Target
) -> Plan:
    draft = Draft({name: layout for name, layout in given.items() if layout is not None})
    steps, batch, inputs = draft.operands["x"].shape
    out = draft.operands["h"].shape[1]
    layer = Layer(cell, draft.operands["x"].dtype, steps, batch, hidden, out, reverse, target)
    pack_gates(draft, layer, inputs)
    if "w_hr" in draft.operands:
        w_hr = draft.operands["w_hr"]
        draft.pack("w_hr", turned(w_hr), layer.panel, "projection")
        draft.temporary("outs", packed(layer.dtype, (batch, padded(hidden, layer.width))))
    wide = padded(out, max(layer.width, layer.panel)) + layer.lanes
    draft.temporary("states", packed(layer.dtype, (2, batch, wide)))
    if "c" in draft.operands:
        draft.temporary("memory", packed(layer.dtype, (batch, padded(hidden, layer.width))))
    written = ("y", "cells", "gates", *draft.temporaries.keys() - {"weights", "projection"})
    names = [n for n in (*given, *draft.temporaries) if n not in ("w_ih", "w_hh", "w_hr")]
    flops = 2 * steps * batch * cell.gates * hidden * (inputs + out)
    walk_kernel(cell.name, layer, draft, names, written, layer.rows, flops, Forward)
    return draft.plan()
