"""A compiled step as one HTML page: its kernels, its memory over time, a profile, its graph.

The page needs nothing else: no scripts, styles or fonts from anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from ganglion.compiler.explain import Explanation, size
from ganglion.compiler.roofline import Peaks
from ganglion.compiler.schedule import Buffer, Schedule
from ganglion.graph import Node

if TYPE_CHECKING:
    from ganglion.compiler.profile import Profile, Span

WIDE, HIGH, ROW = 1000, 320, 24  # of drawings, in units of their own

STYLE: Final = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; color: #222 }
h1 { font-size: 1.4em } h2 { font-size: 1.1em; margin-top: 2em }
table { border-collapse: collapse; font-size: 13px }
th, td { padding: 2px 8px; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }
th { cursor: pointer; position: sticky; top: 0; background: #fff; user-select: none }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
svg { width: 100%; background: #fafafa; border: 1px solid #ddd }
rect { stroke: #fff; stroke-width: 1; vector-effect: non-scaling-stroke }
rect:hover { stroke: #000 }
pre { font: 12px/1.5 ui-monospace, monospace; margin: 0 0 0 2em; white-space: pre-wrap }
summary { cursor: pointer } .note { color: #777 } a { color: inherit; text-decoration: none }
a:hover, :target { background: #fe9 }
"""

SORT: Final = """
for (const head of document.querySelectorAll("th")) head.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex
  const up = head.dataset.up = head.dataset.up === "1" ? "" : "1"
  const key = row => row.cells[column].dataset.value ?? row.cells[column].innerText
  const compare = (a, b) => isNaN(a) || isNaN(b) ? String(a).localeCompare(b) : a - b
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b)) * (up ? 1 : -1)))
}
onhashchange = () => {
  const found = document.querySelector(location.hash)
  found?.closest("details")?.setAttribute("open", "")
  found?.scrollIntoView()
}
"""


def page(schedule: Schedule, profile: Profile | None = None, peaks: Peaks | None = None) -> str:
    """The page of a schedule; ``peaks`` are measured unless given."""
    facts = Explanation(schedule, peaks)
    parts = [
        _head(facts),
        _kernels(facts, profile),
        _timeline(facts, profile) if profile is not None else "",
        _memory(facts),
        _list("Barriers", _barriers(facts)),
        _list("Calls of the host", _hosts(facts)),
        _list("States", _states(facts)),
        _graph(facts),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>A compiled step</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + f"\n<script>{SORT}</script></body></html>\n"
    )


def _head(facts: Explanation) -> str:
    return (
        f"<h1>A compiled step</h1><p>{escape(facts.summary())}</p>"
        f'<p class="note">Should take {facts.seconds * 1e6:.1f} µs and more: predicted, '
        f"not measured, from {escape(str(facts.peaks))}.</p>"
    )


def _list(title: str, items: Sequence[str]) -> str:
    rows = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<details><summary><b>{title}</b> ({len(items)})</summary><ul>{rows}</ul></details>" * (
        len(items) > 0
    )


def _barriers(facts: Explanation) -> list[str]:
    return [f"phase {n}: waits for {', '.join(why)}" for n, why in facts.barriers()]


def _hosts(facts: Explanation) -> list[str]:
    return [
        f"{k} {launch.name}: {facts.host_reason(launch)}"
        for k, launch in enumerate(facts.launches)
        if launch.host is not None
    ]


def _states(facts: Explanation) -> list[str]:
    return [
        f"state{s.slot} {s.type}: {s.how}" + ("" if s.launch is None else f" by kernel {s.launch}")
        for s in facts.states
    ]


# --- kernels --------------------------------------------------------------------------------------


def _kernels(facts: Explanation, profile: Profile | None) -> str:
    heads = ["#", "phase", "kernel", "computes", "lines", "tasks", "KFLOP", "KB", "predicted µs",
             "bound by"]  # fmt: skip
    heads += ["measured µs", "of roofline"] if profile is not None else []
    heads.append("memory")
    rows = "".join(_kernel(facts, k, profile) for k in range(len(facts.launches)))
    head = "".join(f"<th>{h}</th>" for h in heads)
    return f"<h2>Kernels</h2><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>"


def _kernel(facts: Explanation, k: int, profile: Profile | None) -> str:
    launch, found = facts.launches[k], facts.forecasts[k]
    kernel = launch.kernel
    flops, moved = (kernel.flops, kernel.bytes) if kernel else (0, 0)
    reads, writes = (" ".join(b.name for b in some) for some in (launch.reads, launch.writes))
    cells = [
        _number(k, f"{k}"), _number(launch.phase, f"{launch.phase}"),
        _text(launch.name), _text(facts.ops(k)), _text(", ".join(facts.lines(k))),
        _number(launch.tasks, f"{launch.tasks}"), _number(flops, f"{flops / 1e3:.1f}"),
        _number(moved, f"{moved / 1e3:.1f}"),
        _number(found.seconds, f"{found.seconds * 1e6:.1f}"), _text(found.bound),
    ]  # fmt: skip
    if profile is not None:
        row = profile.rows[k]
        cells.append(_number(row.seconds, f"{row.seconds * 1e6:.1f}"))
        cells.append(_number(row.reached, f"{row.reached:.0%}"))
    cells.append(_text(f"{reads} → {writes}"))
    return f'<tr id="k{k}">{"".join(cells)}</tr>\n'


def _text(text: str) -> str:
    return f"<td>{escape(text)}</td>"


def _number(value: float, text: str) -> str:
    return f'<td class="n" data-value="{value:g}">{text}</td>'


# --- drawings -------------------------------------------------------------------------------------


def _box(
    x: float, y: float, width: float, height: float, color: str, note: str, label: str = ""
) -> str:
    inside = (
        f'<text x="{x + 3:.1f}" y="{y + height / 2 + 4:.1f}" font-size="11">{escape(label)}</text>'
    )
    return (
        f'<rect x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}" fill="{color}">'
        f"<title>{escape(note)}</title></rect>" + (inside if label else "")
    )


def _color(name: str) -> str:
    """The same color for the same name, in every process."""
    return f"hsl({sum(k * ord(c) for k, c in enumerate(name, 7)) * 47 % 360} 60% 75%)"


def _drawing(boxes: Iterable[str], height: float) -> str:
    return f'<svg viewBox="0 0 {WIDE} {height:.0f}">{"".join(boxes)}</svg>'


def _memory(facts: Explanation) -> str:
    """Buffers as boxes: phases from left to right, addresses from top to bottom."""
    schedule = facts.schedule
    if not facts.arena:
        return ""
    total = size(sum(b.nbytes for b in facts.arena))
    step, scale = WIDE / schedule.phases, HIGH / max(schedule.arena, 1)
    boxes = (_buffer(facts, b, step, scale) for b in facts.arena)
    return (
        f"<h2>Memory</h2><p>{size(schedule.arena)} hold {total} of temporaries. Phases from left "
        f"to right, addresses from top to bottom.</p>{_drawing(boxes, HIGH)}"
    )


def _buffer(facts: Explanation, b: Buffer, step: float, scale: float) -> str:
    width, height = (b.last - b.first + 1) * step, max(b.nbytes * scale, 0.5)
    note = f"{b.name}: {facts.content(b)}\n{b.nbytes} B at {b.offset}, phases {b.first} to {b.last}"
    label = b.name if height > 12 and width > 8 * len(b.name) else ""
    return _box(b.first * step, b.offset * scale, width, height, _color(b.name), note, label)


def _timeline(facts: Explanation, profile: Profile) -> str:
    """One step of a profile: a row for each thread."""
    end = max((span.end for span in profile.spans), default=1.0)
    boxes = (_span(facts, span, WIDE / end) for span in profile.spans)
    parts = {
        "kernels": profile.kernels, "waiting": profile.waiting, "host": profile.host,
        "calling": profile.calling,
    }  # fmt: skip
    shares = ", ".join(f"{name} {seconds * 1e6:.1f} µs" for name, seconds in parts.items())
    return (
        f"<h2>Timeline</h2><p>A step takes {profile.seconds * 1e6:.1f} µs on {profile.threads} "
        f"threads, {profile.clocked * 1e6:.1f} µs with clocks in it: {shares} a thread. Below, "
        f"one step of {end * 1e6:.1f} µs.</p>{_drawing(boxes, ROW * profile.threads)}"
    )


def _span(facts: Explanation, span: Span, scale: float) -> str:
    name, seconds = facts.launches[span.number].name, span.end - span.start
    title = f"kernel {span.number} {name}, thread {span.thread}: {seconds * 1e6:.2f} µs"
    note = f"{title}\n{facts.ops(span.number)}"
    width = max(seconds * scale, 0.3)
    label = f"{span.number} {name}" if width > 8 * len(name) else ""
    place = span.start * scale, span.thread * ROW
    return _box(*place, width, ROW - 2, _color(f"{span.number} {name}"), note, label)


# --- the graph ------------------------------------------------------------------------------------


def _graph(facts: Explanation) -> str:
    """The nodes by the kernel that computes them; names lead to where they are defined."""
    lines = facts.schedule.graph.text(origins=True).splitlines()
    counts = ", ".join(f"{count} {name}" for name, count in facts.counts)
    return (
        f"<h2>Graph</h2><p>{escape(counts)}</p>"
        + "".join(_groups(facts, lines))
        + f"<pre>{_linked(lines[len(facts.names) :])}</pre>"
    )


def _groups(facts: Explanation, lines: Sequence[str]) -> Iterator[str]:
    shown: set[Node] = set()
    computed = {node for nodes in facts.nodes for node in nodes}
    leaves = [node for node in facts.names if node not in computed]
    groups = [("arguments, states, constants, views of them", leaves)]
    groups += [
        (f"kernel {k} {x.name}: {facts.ops(k)}", facts.nodes[k])
        for k, x in enumerate(facts.launches)
    ]
    for title, nodes in groups:
        body = _linked([lines[facts.names[node]] for node in nodes if node not in shown])
        again = [f"%{facts.names[node]}" for node in nodes if node in shown]
        body += f"\nand again {_linked([', '.join(again)])}" if again else ""
        shown |= set(nodes)
        yield f"<details><summary>{escape(title)}</summary><pre>{body}</pre></details>\n"


def _linked(lines: Sequence[str]) -> str:
    """Lines in which the first ``%7`` is a target and the others lead there."""
    return "\n".join(_linked_line(escape(line)) for line in lines)


def _linked_line(line: str) -> str:
    name, colon, rest = line.partition(": ")
    if re.fullmatch(r"%\d+", name):
        return f'<span id="n{name[1:]}">{name}</span>{colon}{_links(rest)}'
    return _links(line)


def _links(text: str) -> str:
    return re.sub(r"%(\d+)", r'<a href="#n\1">%\1</a>', text)
