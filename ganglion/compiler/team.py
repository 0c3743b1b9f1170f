"""The native half of the thread pool: its memory, and its code as LLVM text.

The memory is one `Control`, then a `Box` for each thread, the caller's (thread 0) included. Two
primitives carry everything: ``post`` stores a number and wakes whoever sleeps on it, ``wait`` spins
and then sleeps until a number is reached. A run is posted into the box of each worker, whose answer
stands beside it, so a run by few threads never disturbs the others. In a barrier each thread hears
from those 1, 2, 4, ... places before it, until it has heard from all, directly or through others.

Numbers only grow and are compared by their difference, so they may overflow.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import c_byte, c_int32, c_int64, c_void_p
from string import Template
from typing import Final

from ganglion.compiler.target import Target
from ganglion.errors import ArgumentError

MOST: Final = 1024  # threads
LINE: Final = 128  # bytes: processors move two cache lines at a time


class Control(ctypes.Structure):
    """What all threads share: first what is rarely written, then what every run writes."""

    _fields_ = (
        ("barrier", c_void_p),
        ("primitive", c_void_p),  # syscall or usleep of the C library
        ("idle", c_int64),  # how often workers look for a run before they sleep; 0 while parked
        ("idle_limit", c_int64),  # what each run sets that to
        ("patience_limit", c_int64),  # how often a thread looks before it sleeps within a run
        ("cores", c_int64),
        ("team", c_int64),  # threads of the last run
        ("gate", c_int32 * 2),  # runs that do not hold the GIL wait here while it is negative
        ("_pad", c_byte * (LINE - 64)),
        ("claimed", c_int32),  # a team is at work
        ("running", c_int32),  # runs behind the gate
        ("_more", c_byte * (LINE - 8)),
    )


class Box(ctypes.Structure):
    """What one thread is told and answers; behind each number stands how many sleep on it."""

    _fields_ = (
        ("ticket", c_int32 * 2),
        ("done", c_int32 * 2),
        ("function", c_void_p),
        ("argument", c_void_p),
        ("threads", c_int64),
        ("barriers", c_int64),  # how many this thread has passed
        ("patience", c_int64),  # for the rest of this run; halved by each wait that outlasts it
        ("taken", c_int32),  # a worker is in native code and reads this
        ("_pad", c_byte * (LINE - 60)),
        ("heard", c_int32 * 2 * (LINE // 8)),  # one number for each distance
    )


class Record(ctypes.Structure):
    """How long the runs of one function took, in ticks, until there is something to decide."""

    _fields_ = (("ticks", c_int64), ("runs", c_int64), ("until", c_int64))


SIZE: Final = ctypes.sizeof(Control) + MOST * ctypes.sizeof(Box)

# How a processor pauses, tells the time, and counts denormals as zero for a while.
PROCESSORS: Final = {
    "x86_64": {
        "declare": """
declare void @llvm.x86.sse2.pause()
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)""",
        "pause": "call void @llvm.x86.sse2.pause()",
        "counter": "declare i64 @llvm.readcyclecounter()",
        "clock": "call i64 @llvm.readcyclecounter()",
        "flush": """%mode = alloca i32
  %flushed = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %mode)
  store i32 40896, ptr %flushed  ; all exceptions masked, both denormal bits set
  call void @llvm.x86.sse.ldmxcsr(ptr %flushed)""",
        "restore": "call void @llvm.x86.sse.ldmxcsr(ptr %mode)",
        "futex": "202",
    },
    "aarch64": {
        "declare": """
declare void @llvm.aarch64.hint(i32)
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)""",
        "pause": "call void @llvm.aarch64.hint(i32 1)",
        "counter": """
declare i64 @llvm.read_volatile_register.i64(metadata)
!0 = !{!"cntvct_el0"}""",
        "clock": "call i64 @llvm.read_volatile_register.i64(metadata !0)",
        "flush": """%mode = call i64 @llvm.aarch64.get.fpcr()
  %flushed = or i64 %mode, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %flushed)""",
        "restore": "call void @llvm.aarch64.set.fpcr(i64 %mode)",
        "futex": "98",
    },
}

# Sleeping while a word holds a number, and waking the sleepers: by futex, or by looking again
# twice per millisecond.
FUTEX: Final = {
    "sleep": """%number = zext i32 %seen to i64
  call i64 (i64, ...) %primitive(i64 $futex, ptr %word, i64 128, i64 %number, ptr null)""",
    "wake": """%primitive.at = getelementptr i8, ptr %control, i64 $primitive
  %primitive = load ptr, ptr %primitive.at
  call i64 (i64, ...) %primitive(i64 $futex, ptr %word, i64 129, i64 2147483647)""",
}
POLL: Final = {"sleep": "call i32 %primitive(i32 500)", "wake": ""}

CODE: Final = Template("""$declare
$counter

define dso_local void @post(ptr %word, i32 %number, ptr %control) nounwind {
  %old = atomicrmw xchg ptr %word, i32 %number seq_cst
  %sleepers = getelementptr i8, ptr %word, i64 4
  %count = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %count, 0
  br i1 %any, label %wake, label %out
wake:
  $wake
  br label %out
out:
  ret void
}

define dso_local i1 @wait(ptr %word, i32 %number.wanted, ptr %limit, ptr %control) nounwind {
  br label %look
look:
  %looks = phi i64 [ 0, %0 ], [ %looked, %again ]
  %found = load atomic i32, ptr %word acquire, align 4
  %beyond = sub i32 %found, %number.wanted
  %reached = icmp sge i32 %beyond, 0
  br i1 %reached, label %out, label %spin
spin:
  %most = load atomic i64, ptr %limit monotonic, align 8
  %looked = add i64 %looks, 1
  %patient = icmp ult i64 %looks, %most
  br i1 %patient, label %again, label %tired
again:
  $pause
  br label %look
tired:
  %sleepers = getelementptr i8, ptr %word, i64 4
  %primitive.at = getelementptr i8, ptr %control, i64 $primitive
  %primitive = load ptr, ptr %primitive.at
  %before = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %check
check:
  %seen = load atomic i32, ptr %word seq_cst, align 4
  %past = sub i32 %seen, %number.wanted
  %there = icmp sge i32 %past, 0
  br i1 %there, label %awake, label %sleep
sleep:
  $sleep
  br label %check
awake:
  %after = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %out
out:
  %slept = phi i1 [ false, %look ], [ true, %awake ]
  ret i1 %slept
}

define dso_local i64 @pauses(i64 %count) nounwind {
  %start = $clock
  br label %again
again:
  %i = phi i64 [ 0, %0 ], [ %next, %again ]
  $pause
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %again, label %out
out:
  %end = $clock
  %ticks = sub i64 %end, %start
  ret i64 %ticks
}

define dso_local void @barrier(ptr %control, i64 %thread, i64 %threads) nounwind {
  %many = icmp sgt i64 %threads, 1
  br i1 %many, label %begin, label %out
begin:
  %boxes = getelementptr i8, ptr %control, i64 $boxes
  %place = mul i64 %thread, $box
  %own = getelementptr i8, ptr %boxes, i64 %place
  %patience.at = getelementptr i8, ptr %own, i64 $patience
  %passed.at = getelementptr i8, ptr %own, i64 $barriers
  %passed = load i64, ptr %passed.at
  %now = add i64 %passed, 1
  store i64 %now, ptr %passed.at
  %number = trunc i64 %now to i32
  br label %round
round:
  %distance = phi i64 [ 1, %begin ], [ %doubled, %heard.now ]
  %heard = phi i64 [ $heard, %begin ], [ %further, %heard.now ]
  %ahead = add i64 %thread, %distance
  %around = sub i64 %ahead, %threads
  %beyond = icmp sge i64 %around, 0
  %other = select i1 %beyond, i64 %around, i64 %ahead
  %other.place = mul i64 %other, $box
  %other.word = add i64 %other.place, %heard
  %theirs = getelementptr i8, ptr %boxes, i64 %other.word
  call void @post(ptr %theirs, i32 %number, ptr %control)
  %mine = getelementptr i8, ptr %own, i64 %heard
  %slept = call i1 @wait(ptr %mine, i32 %number, ptr %patience.at, ptr %control)
  br i1 %slept, label %less, label %heard.now
less:
  %patience = load i64, ptr %patience.at
  %half = lshr i64 %patience, 1
  store i64 %half, ptr %patience.at
  br label %heard.now
heard.now:
  %doubled = shl i64 %distance, 1
  %further = add i64 %heard, 8
  %more = icmp slt i64 %doubled, %threads
  br i1 %more, label %round, label %out
out:
  ret void
}

define dso_local void @worker(ptr %control, i64 %thread) nounwind {
  $flush
  %idle = getelementptr i8, ptr %control, i64 $idle
  %place = mul i64 %thread, $box
  %within = add i64 %place, $boxes
  %ticket = getelementptr i8, ptr %control, i64 %within
  %done = getelementptr i8, ptr %ticket, i64 $done
  %function.at = getelementptr i8, ptr %ticket, i64 $function
  %argument.at = getelementptr i8, ptr %ticket, i64 $argument
  %threads.at = getelementptr i8, ptr %ticket, i64 $threads
  %first = load i32, ptr %ticket
  %taken = getelementptr i8, ptr %ticket, i64 $taken
  %found = cmpxchg ptr %taken, i32 0, i32 1 seq_cst seq_cst
  %ours = extractvalue { i32, i1 } %found, 1
  br i1 %ours, label %next, label %out
next:
  %last = phi i32 [ %first, %0 ], [ %number, %run ]
  %number = add i32 %last, 1
  %slept = call i1 @wait(ptr %ticket, i32 %number, ptr %idle, ptr %control)
  %function = load ptr, ptr %function.at
  %quit = icmp eq ptr %function, null
  br i1 %quit, label %out, label %run
run:
  %argument = load ptr, ptr %argument.at
  %threads = load i64, ptr %threads.at
  call void %function(ptr %argument, i64 %thread, i64 %threads, ptr %control)
  call void @post(ptr %done, i32 %number, ptr %control)
  br label %next
out:
  ret void
}

define internal i64 @gather(ptr %control, i64 %threads) nounwind {
  %cores.at = getelementptr i8, ptr %control, i64 $cores
  %cores = load i64, ptr %cores.at
  %crowded = icmp sgt i64 %threads, %cores
  %idle.at = getelementptr i8, ptr %control, i64 $idle
  %idle = load i64, ptr %idle.at
  %idle_limit.at = getelementptr i8, ptr %control, i64 $idle_limit
  %idle_limit = load i64, ptr %idle_limit.at
  %idle.new = select i1 %crowded, i64 0, i64 %idle_limit
  %idle.same = icmp eq i64 %idle, %idle.new
  br i1 %idle.same, label %kept, label %write
write:
  store atomic i64 %idle.new, ptr %idle.at monotonic, align 8
  br label %kept
kept:
  %patience_limit.at = getelementptr i8, ptr %control, i64 $patience_limit
  %patience_limit = load i64, ptr %patience_limit.at
  %patience = select i1 %crowded, i64 0, i64 %patience_limit
  %team.at = getelementptr i8, ptr %control, i64 $team
  %team = load i64, ptr %team.at
  %same = icmp eq i64 %team, %threads
  br i1 %same, label %out, label %change
change:
  store i64 %threads, ptr %team.at
  br label %box
box:
  %thread = phi i64 [ 0, %change ], [ %next, %cleared ]
  %place = mul i64 %thread, $box
  %within = add i64 %place, $boxes
  %start = getelementptr i8, ptr %control, i64 %within
  %barriers = getelementptr i8, ptr %start, i64 $barriers
  store i64 0, ptr %barriers
  br label %clear
clear:
  %heard = phi i64 [ $heard, %box ], [ %further, %clear ]
  %word = getelementptr i8, ptr %start, i64 %heard
  store i64 0, ptr %word
  %further = add i64 %heard, 8
  %left = icmp slt i64 %further, $box
  br i1 %left, label %clear, label %cleared
cleared:
  %next = add i64 %thread, 1
  %more = icmp slt i64 %next, %threads
  br i1 %more, label %box, label %out
out:
  ret i64 %patience
}

define dso_local i32 @dispatch(ptr %control, ptr %function, ptr %argument, i64 %threads,
                               ptr %record) nounwind {
  $flush
  %start = $clock
  %many = icmp sgt i64 %threads, 1
  br i1 %many, label %claim, label %alone
claim:
  %claimed = getelementptr i8, ptr %control, i64 $claimed
  %found = cmpxchg ptr %claimed, i32 0, i32 1 seq_cst seq_cst
  %ours = extractvalue { i32, i1 } %found, 1
  br i1 %ours, label %team, label %refused
refused:
  call void %function(ptr %argument, i64 0, i64 1, ptr %control)
  br label %out
alone:
  call void %function(ptr %argument, i64 0, i64 1, ptr %control)
  br label %done
team:
  %patience = call i64 @gather(ptr %control, i64 %threads)
  %boxes = getelementptr i8, ptr %control, i64 $boxes
  %own.patience = getelementptr i8, ptr %boxes, i64 $patience
  store i64 %patience, ptr %own.patience
  br label %tell
tell:
  %told = phi i64 [ 1, %team ], [ %told.next, %tell ]
  %told.place = mul i64 %told, $box
  %ticket = getelementptr i8, ptr %boxes, i64 %told.place
  %function.at = getelementptr i8, ptr %ticket, i64 $function
  store ptr %function, ptr %function.at
  %argument.at = getelementptr i8, ptr %ticket, i64 $argument
  store ptr %argument, ptr %argument.at
  %threads.at = getelementptr i8, ptr %ticket, i64 $threads
  store i64 %threads, ptr %threads.at
  %patience.at = getelementptr i8, ptr %ticket, i64 $patience
  store i64 %patience, ptr %patience.at
  %last = load i32, ptr %ticket
  %number = add i32 %last, 1
  call void @post(ptr %ticket, i32 %number, ptr %control)
  %told.next = add i64 %told, 1
  %told.more = icmp slt i64 %told.next, %threads
  br i1 %told.more, label %tell, label %work
work:
  call void %function(ptr %argument, i64 0, i64 %threads, ptr %control)
  br label %join
join:
  %joined = phi i64 [ 1, %work ], [ %joined.next, %join ]
  %joined.place = mul i64 %joined, $box
  %asked = getelementptr i8, ptr %boxes, i64 %joined.place
  %answer = load i32, ptr %asked
  %answered = getelementptr i8, ptr %asked, i64 $done
  %slept = call i1 @wait(ptr %answered, i32 %answer, ptr %own.patience, ptr %control)
  %joined.next = add i64 %joined, 1
  %joined.more = icmp slt i64 %joined.next, %threads
  br i1 %joined.more, label %join, label %finish
finish:
  store atomic i32 0, ptr %claimed release, align 4
  br label %done
done:
  %unwanted = icmp eq ptr %record, null
  br i1 %unwanted, label %out, label %count
count:
  %end = $clock
  %took = sub i64 %end, %start
  %ticks.before = load i64, ptr %record
  %ticks = add i64 %ticks.before, %took
  store i64 %ticks, ptr %record
  %runs.at = getelementptr i8, ptr %record, i64 $runs
  %runs.before = load i64, ptr %runs.at
  %runs = add i64 %runs.before, 1
  store i64 %runs, ptr %runs.at
  %until.at = getelementptr i8, ptr %record, i64 $until
  %until = load i64, ptr %until.at
  %full = icmp sge i64 %ticks, %until
  %decide = zext i1 %full to i32
  br label %out
out:
  %answer.caller = phi i32 [ 0, %refused ], [ 0, %done ], [ %decide, %count ]
  $restore
  ret i32 %answer.caller
}

define dso_local i32 @dispatch_gated(ptr %control, ptr %function, ptr %argument, i64 %threads,
                                     ptr %record) nounwind {
  %gate = getelementptr i8, ptr %control, i64 $gate
  %running = getelementptr i8, ptr %control, i64 $running
  br label %enter
enter:
  %others = atomicrmw add ptr %running, i32 1 seq_cst
  %state = load atomic i32, ptr %gate seq_cst, align 4
  %closed = icmp slt i32 %state, 0
  br i1 %closed, label %back, label %run
back:
  %left = atomicrmw sub ptr %running, i32 1 seq_cst
  %patience = getelementptr i8, ptr %control, i64 $patience_limit
  %slept = call i1 @wait(ptr %gate, i32 0, ptr %patience, ptr %control)
  br label %enter
run:
  %answer = call i32 @dispatch(ptr %control, ptr %function, ptr %argument, i64 %threads,
                               ptr %record)
  %rest = atomicrmw sub ptr %running, i32 1 seq_cst
  ret i32 %answer
}
""")


def code(target: Target, *, futex: bool = sys.platform == "linux") -> str:
    """The LLVM text of the pool; ``futex=False`` is how it sleeps where there is none."""
    if target.architecture not in PROCESSORS:
        raise ArgumentError(f"no thread pool is written for {target.architecture!r}")
    names = PROCESSORS[target.architecture] | _offsets()
    sleep = {name: Template(text).substitute(names) for name, text in _sleep(futex).items()}
    return CODE.substitute(names | sleep)


def _sleep(futex: bool) -> dict[str, str]:
    return FUTEX if futex else POLL


def _offsets() -> dict[str, str]:
    """Where everything stands: fields in their structure, boxes behind the control."""
    found = {"boxes": ctypes.sizeof(Control), "box": ctypes.sizeof(Box)}
    for structure in (Control, Box, Record):
        found |= {name: getattr(structure, name).offset for name, _ in structure._fields_}
    return {name: str(place) for name, place in found.items()}
