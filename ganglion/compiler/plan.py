"""The plan of a step: which kernels run, in what order, on what memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ganglion.compiler.epilogue import epilogue_of
from ganglion.compiler.fuse import Group, fuse, place_of, same_element
from ganglion.compiler.kernel import Epilogue, Kernel, Layout, packed
from ganglion.compiler.kernels.pack import copy
from ganglion.compiler.layout import choose_layouts
from ganglion.compiler.loops import Memory, nest_kernel
from ganglion.compiler.lower import Call, Lowered, Part, Statement, Stored, loads, lower, replaced
from ganglion.compiler.nest import Nest, Step, arrange, inside_loads, passes
from ganglion.compiler.pooled import max_pooled
from ganglion.compiler.schedule import (
    ALIGN,
    Array,
    Buffer,
    Launch,
    Schedule,
    set_phases,
    set_places,
)
from ganglion.compiler.templates import template
from ganglion.graph import Graph, Value, content
from ganglion.ops import scalar as sc
from ganglion.ops.scalar import Scalar
from ganglion.shapes import Meta


def plan(graph: Graph) -> Schedule:
    """Lower, fuse, place and order a graph."""
    return _Planner(graph).run()


class _Planner:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.lowered: Lowered = lower(graph)
        self.results: list[tuple[str, int, Stored]] = []
        self._copy_results()
        self.layouts = choose_layouts(self.lowered, {v for _, _, v in self.results})
        self.groups = fuse(self.lowered.work, self.layouts, [v for _, _, v in self.results])
        self.buffers: dict[Stored, Buffer] = {}
        self.constants: list[Array] = []
        self.launches: list[Launch] = []
        self.copies: dict[Value, Part] = {}
        self.readers: dict[Stored, list[Group]] = {}

    def run(self) -> Schedule:
        self._leaves()
        for group in self.groups:
            for value in group.reads:
                self.readers.setdefault(value, []).append(group)
        self._results()
        for group in self._ordered():
            self._launch(group)
        phases = set_phases(self.launches)
        arena = set_places(self.launches)
        scratch = max([launch.kernel.scratch for launch in self.launches if launch.kernel] or [0])
        return Schedule(self.graph, self.launches, phases, arena, scratch, self.constants)

    # --- results ------------------------------------------------------------------------------

    def _copy_results(self) -> None:
        """Give every result a value of its own: leaves and repeated values are copied."""
        made = {w.value for w in self.lowered.work if isinstance(w, Statement)}
        made |= {v for w in self.lowered.work if isinstance(w, Call) for v in w.node.values}
        wanted = [("state", slot, v) for slot, v in self.graph.updates]
        wanted += [("output", i, v) for i, v in enumerate(self.graph.outputs)]
        taken: set[Stored] = set()
        for kind, number, value in wanted:
            if value in made and value not in taken:
                taken.add(value)
                self.results.append((kind, number, value))
                continue
            self.results.append((kind, number, self._copy(value, kind, number)))

    def _copy(self, value: Value, kind: str, number: int) -> Part:
        part = Part(value, -1 - len(self.results), value.meta)
        index = sc.indexes(value.shape)
        expression = self.lowered.sources[value](*index)
        self.lowered.work.append(Statement(part, index, expression))
        return part

    # --- memory -------------------------------------------------------------------------------

    def _leaves(self) -> None:
        for i, value in enumerate(self.graph.inputs):
            self.buffers[value] = Buffer("input", i, self.layouts[value], f"input{i}")
        for value in self.graph.states:
            slot = value.node.kwargs["slot"]
            self.buffers[value] = Buffer("state", slot, self.layouts[value], f"state{slot}")
        for node in self.graph.topological():
            if node.op_name == "const" and isinstance(node.kwargs["value"], tuple):
                value = node.values[0]
                number = len(self.constants)
                self.constants.append(np.ascontiguousarray(content(node)))
                self.buffers[value] = Buffer("const", number, self.layouts[value], f"c{number}")

    def _results(self) -> None:
        """Write results where they belong; a state is overwritten once nobody reads it."""
        states = {v.node.kwargs["slot"]: v for v in self.graph.states}
        maker = {value: g for g in self.groups for value in g.makes}
        for kind, number, value in self.results:
            if kind == "output":
                self.buffers[value] = Buffer("output", number, self.layouts[value], f"out{number}")
                continue
            old = states[number]
            if self._may_overwrite(maker[value], value, old):
                self.buffers[value] = self.buffers[old]
                self._after_readers(maker[value], old)
            else:
                copy = self._copy_back(value, old)
                self.buffers[copy.statements[0].value] = self.buffers[old]

    def _may_overwrite(self, group: Group, value: Stored, old: Value) -> bool:
        bit = 1 << group.number
        if any(g.before & bit for g in self.readers.get(old, ()) if g is not group):
            return False
        if group.call is not None and old in group.call.reads:
            return self._in_place(group.call, value, old)
        number = passes(group) if group.call is None else dict.fromkeys(group.makes, 0)
        return all(
            same_element(load, s) and number[s.value] <= number[value]
            for s in group.statements
            for load in s.loads
            if load.args[0] == old
        )

    def _in_place(self, call: Call, result: Stored, old: Stored) -> bool:
        """Whether a call may make a result in the memory of an operand, if nobody else needs it."""
        found = template(call.node)
        base = None if found is None else found.reuses(call.node)
        if base is None or call.host or result != call.node.values[0]:
            return False
        if [v for v in call.node.operands if old in self._read_for(v)] != [base]:
            return False
        index = sc.indexes(base.shape)
        here = place_of(self.lowered.sources[base](*index), self.layouts[old])
        there = place_of(Scalar("load", (result, *index), old.dtype), self.layouts[result])
        if here is None or there is None or self.layouts[old].numel != base.meta.numel:
            return False
        return (here.constant, here.terms) == (there.constant, there.terms)

    def _read_for(self, value: Value) -> set[Stored]:
        """The stored values that an operand is made of."""
        return {
            load.args[0] for load in loads(self.lowered.sources[value](*sc.indexes(value.shape)))
        }

    def _after_readers(self, group: Group, old: Value) -> None:
        bit = 1 << group.number
        for reader in self.readers.get(old, ()):
            if reader is not group:
                group.before |= reader.before | 1 << reader.number
        for other in self.groups:
            if other.before & bit:
                other.before |= group.before

    def _copy_back(self, value: Stored, old: Value) -> Group:
        """Store a new content of a state at the very end."""
        part = Part(old, -1000 - len(self.groups), Meta(value.shape, value.dtype))
        index = sc.indexes(value.shape)
        load = Scalar("load", (value, *index), value.dtype)
        statement = Statement(part, index, load)
        everything = (1 << len(self.groups)) - 1
        sizes = tuple(i.args[1] for i in index if i.op == "index")
        group = Group(len(self.groups), None, [statement], sizes, before=everything)
        self.layouts[part] = self.layouts[value]
        self.groups.append(group)
        self.readers.setdefault(value, []).append(group)
        return group

    def _ordered(self) -> Iterator[Group]:
        done, waiting = 0, list(self.groups)
        while waiting:
            group = next(g for g in waiting if not g.before & ~done)
            yield group
            done |= 1 << group.number
            waiting.remove(group)

    # --- kernels ------------------------------------------------------------------------------

    def _launch(self, group: Group) -> None:
        for value in group.makes:
            if value in self.readers:
                self._home(value)
        for joined in group.call.joins if group.call is not None else ():
            whole = self._home(joined.value)
            self.buffers.update(dict.fromkeys(joined.parts, whole))
        if group.call is None:
            self._nest(group)
        elif group.call.host:
            self._host(group.call)
        else:
            self._template(group)

    def _temporary(self, layout: Layout, name: str) -> Buffer:
        return Buffer("arena", -1, layout, f"t{name}")

    def _nest(self, group: Group) -> None:
        if any(s.size == 0 and not s.reduction for s in group.statements):
            group.statements = [s for s in group.statements if s.size]
            if not group.statements:
                return
        if len(group.statements) == 1 and self._turned(group.statements[0], group):
            return
        near = {v for s in group.statements for v in (*s.reads, s.value) if v in self.buffers}
        nest = arrange(group, {v: self.layouts[v] for v in near})
        memory = self._memory(nest)
        kernel = nest_kernel(nest, memory, _name(group))
        order = sorted(memory.operands, key=memory.operands.__getitem__)
        self._add(kernel, [self.buffers[v] for v in order], group)

    def _turned(self, s: Statement, group: Group) -> bool:
        """Store a copy in another order of dimensions, block by block, if that is what it is."""
        load = s.expression
        if load.op != "load" or not same_element(load, s) or s.value not in self.buffers:
            return False
        source, target = self.layouts[load.args[0]], self.layouts[s.value]
        if source.contiguous or not target.contiguous or source.dtype is not target.dtype:
            return False
        kernel = copy(source, packed(target.dtype, source.shape))
        self._add(kernel, [self.buffers[load.args[0]], self.buffers[s.value]], group)
        return True

    def _memory(self, nest: Nest) -> Memory:
        operands: dict[Stored, int] = {}
        layouts: dict[Stored, Layout] = {}
        made = {step.value for step in nest.steps}
        for step in nest.steps:
            for value in (*(load.args[0] for load in loads(step.expression)), step.value):
                if value in self.buffers:
                    operands.setdefault(value, len(operands))
                    layouts[value] = self.layouts[value]
        scratch: dict[Stored, int] = {}
        size = 0
        for value in self._in_scratch(nest, made):
            layout = _private(value, nest)
            layouts[value], scratch[value] = layout, size
            size += -(-layout.elements * layout.dtype.itemsize // ALIGN) * ALIGN
        return Memory(operands, layouts, scratch, size)

    def _in_scratch(self, nest: Nest, made: set[Stored]) -> list[Stored]:
        """Values without a buffer that a later pass reads from memory."""
        home = {step.value: k for k, one in enumerate(nest.passes) for step in one.steps}
        found: dict[Stored, None] = {}
        for number, load, _ in inside_loads(nest):
            value = load.args[0]
            single = not nest.passes[home[value]].inner or (
                set(nest.passes[home[value]].inner) <= nest.passes[home[value]].summed
                and _kind_of(nest, value)
            )
            if home[value] != number and value not in self.buffers and not single:
                found[value] = None
        return list(found)

    def _template(self, group: Group) -> None:
        call = group.call
        assert call is not None
        found = template(call.node)
        assert found is not None
        operands = [None if v is None else self._operand(v) for v in call.node.inputs]
        layouts = [layout for layout, _ in (o for o in operands if o is not None)]
        sources = [buffer for _, buffer in (o for o in operands if o is not None)]
        if found.finish is not None:
            epilogue, targets = self._epilogue(group, found.shape(call.node))
            steps = found.finish(call.node, layouts, epilogue)
        else:
            assert found.store is not None
            wanted = [
                None if k in found.optional and v not in self.buffers else v
                for k, v in enumerate(call.node.values)
            ]
            targets = [self._home(v) for v in wanted if v is not None]
            given = [None if o is None else o[0] for o in operands]
            results = [None if v is None else self.layouts[v] for v in wanted]
            steps = found.store(call.node, given, results)
        temporaries = [self._temporary(t, f"{len(self.launches)}.{k}")
                       for k, t in enumerate(steps.temporaries)]  # fmt: skip
        every = [*sources, *targets, *temporaries]
        for kernel, numbers in steps.steps:
            self._add(kernel, [every[n] for n in numbers], group)

    def _home(self, value: Stored) -> Buffer:
        """The buffer of a value, found for it now if it has none."""
        if value not in self.buffers:
            later = self._continued(value)
            self.buffers[value] = (
                self._temporary(self.layouts[value], str(len(self.buffers)))
                if later is None
                else self._home(later)
            )
        return self.buffers[value]

    def _continued(self, value: Stored) -> Value | None:
        """What the only reader of a value makes in its memory."""
        readers = self.readers.get(value, [])
        call = readers[0].call if len(readers) == 1 else None
        if call is None or call.joins or not self._in_place(call, call.node.values[0], value):
            return None
        result = call.node.values[0]
        fresh = result not in self.buffers or self.buffers[result].kind == "output"
        return result if fresh else None

    def _operand(self, value: Value) -> tuple[Layout, Buffer]:
        """A value as a buffer with strides: views are read through their base, or copied."""
        index = sc.indexes(value.shape)
        load = self.lowered.sources[value](*index)
        base = self.layouts[load.args[0]]
        place = place_of(load, base)
        if place is None or not set(place.terms) <= set(index):
            return self._copied(value, index, load)
        strides = [place.terms.get(i, 0) for i in index]
        for k in reversed(range(len(index))):  # where there is one element, any stride will do
            if value.shape[k] == 1:
                last = k + 1 == len(index)
                strides[k] = 1 if last else strides[k + 1] * value.shape[k + 1]
        layout = Layout(base.dtype, value.shape, tuple(strides), place.constant, base.elements)
        return layout, self.buffers[load.args[0]]

    def _copied(
        self, value: Value, index: tuple[Scalar, ...], load: Scalar
    ) -> tuple[Layout, Buffer]:
        """A row-major copy, for a view that strides cannot express."""
        if value not in self.copies:
            part = Part(value, -2000 - len(self.copies), value.meta)
            self.copies[value] = part
            self.layouts[part] = packed(value.dtype, value.shape)
            self._home(part)
            statement = Statement(part, index, load)
            self._nest(Group(-1, None, [statement]))
        part = self.copies[value]
        return self.layouts[part], self.buffers[part]

    def _epilogue(self, group: Group, shape: tuple[int, ...]) -> tuple[Epilogue, list[Buffer]]:
        call = group.call
        assert call is not None
        if group.pool is None:
            return self._finished(call, shape, group.statements)
        first, operands = self._finished(call, shape, group.statements[: group.early])
        node = group.pool.node
        second, more = self._finished(
            group.pool, node.outputs[0].shape, group.statements[group.early :]
        )
        return max_pooled(first, node.kwargs["kernel"], second), [*operands, *more]

    def _finished(
        self, call: Call, shape: tuple[int, ...], statements: Sequence[Statement]
    ) -> tuple[Epilogue, list[Buffer]]:
        """The epilogue of statements over the results of a call, seen by indexes of ``shape``."""
        index = sc.indexes(shape)
        number = sc.flat(index, shape)
        steps = []
        for result in call.node.values:
            load = Scalar("load", (result, *index), result.dtype)
            own = index if result.shape == shape else tuple(sc.unflat(number, result.shape))
            steps.append(Step(result, own if result in self.buffers else index, load))
        for s in statements:
            own = index if s.shape == shape else tuple(sc.unflat(number, s.shape))
            places = {a: b for a, b in zip(s.index, own, strict=True) if a.op == "index"}
            steps.append(Step(s.value, own, replaced(s.expression, places)))
        near = {v for s in steps for v in (*(x.args[0] for x in loads(s.expression)), s.value)}
        held = {v: self.layouts[v] for v in near if v in self.buffers}
        epilogue, operands = epilogue_of(index, steps, held, len(call.node.values))
        return epilogue, [self.buffers[v] for v in operands]

    def _host(self, call: Call) -> None:
        reads = [self._operand(v)[1] for v in call.node.operands]
        writes = [self._home(v) for v in call.node.values]
        self.launches.append(
            Launch(
                None,
                (*reads, *writes),
                tuple(reads),
                tuple(writes),
                call.node,
                made=dict(zip(call.node.values, writes, strict=True)),
            )
        )

    def _add(self, kernel: Kernel, buffers: list[Buffer], group: Group) -> None:
        if _is_idle(kernel, buffers):
            return
        reads = tuple(buffers[i] for i in kernel.reads)
        writes = tuple(buffers[i] for i in kernel.writes)
        made = {v: self.buffers.get(v) for v in group.makes}
        self.launches.append(Launch(kernel, tuple(buffers), reads, writes, made=made))


def _is_idle(kernel: Kernel, buffers: Sequence[Buffer]) -> bool:
    """Whether a kernel copies a value onto itself."""
    if kernel.name != "copy" or buffers[0] is not buffers[1]:
        return False
    source, target = kernel.operands
    return (source.strides, source.offset) == (target.strides, target.offset)


def _kind_of(nest: Nest, value: Stored) -> str:
    return next(step.kind for step in nest.steps if step.value == value)


def _name(group: Group) -> str:
    last = group.statements[-1].value
    node = last.of.node if isinstance(last, Part) else last.node
    return f"loop {node.op_name}"


def _private(value: Stored, nest: Nest) -> Layout:
    """The layout of a value of which only one task's share exists at a time."""
    step = next(s for s in nest.steps if s.value == value)
    strides, size = [], 1
    for i, extent in zip(reversed(step.index), reversed(value.shape), strict=True):
        outer = i.op == "const" or i in nest.outer
        strides.append(0 if outer else size)
        size *= 1 if outer else extent
    return Layout(value.dtype, value.shape, tuple(reversed(strides)), 0, size)
