"""Native functions that find out whether a pool keeps its promises, for tests and their processes.

Each takes a NumPy array of int64 and can be run as ``run(name, array, threads=2)``.
"""

import numpy as np

from ganglion.compiler import pool
from ganglion.compiler.llvm import compile_text, load
from ganglion.compiler.target import host

LINE = 16  # int64 numbers per thread

TEXT = f"""
; array[LINE * thread] counts calls, the next number is threads
define void @who(ptr %array, i64 %thread, i64 %threads, ptr %control) {{
  %place = mul i64 %thread, {LINE}
  %calls.at = getelementptr i64, ptr %array, i64 %place
  %calls = load i64, ptr %calls.at
  %more = add i64 %calls, 1
  store i64 %more, ptr %calls.at
  %threads.at = getelementptr i64, ptr %calls.at, i64 1
  store i64 %threads, ptr %threads.at
  ret void
}}

; In each of array[0] rounds every thread writes the round's number and adds up what all threads
; wrote, between two barriers; the sums stand at array[LINE * (1 + thread) + 1].
define void @exchange(ptr %array, i64 %thread, i64 %threads, ptr %control) {{
  %rounds = load i64, ptr %array
  %line = add i64 %thread, 1
  %place = mul i64 %line, {LINE}
  %own = getelementptr i64, ptr %array, i64 %place
  %sum.at = getelementptr i64, ptr %own, i64 1
  br label %round
round:
  %i = phi i64 [ 1, %0 ], [ %next, %heard ]
  %sum.before = phi i64 [ 0, %0 ], [ %sum, %heard ]
  store i64 %i, ptr %own
  {pool.BARRIER.strip()}
  br label %hear
hear:
  %other = phi i64 [ 1, %round ], [ %other.next, %hear ]
  %sum.so = phi i64 [ %sum.before, %round ], [ %sum, %hear ]
  %other.place = mul i64 %other, {LINE}
  %other.at = getelementptr i64, ptr %array, i64 %other.place
  %said = load i64, ptr %other.at
  %sum = add i64 %sum.so, %said
  %other.next = add i64 %other, 1
  %others = icmp sle i64 %other.next, %threads
  br i1 %others, label %hear, label %heard
heard:
  {pool.BARRIER.strip().replace("%barrier", "%barrier.again")}
  %next = add i64 %i, 1
  %on = icmp sle i64 %next, %rounds
  br i1 %on, label %round, label %out
out:
  store i64 %sum, ptr %sum.at
  ret void
}}

; every thread halves the smallest normal float and stores the bits of the result
define void @denormal(ptr %array, i64 %thread, i64 %threads, ptr %control) {{
  %line = add i64 %thread, 1
  %place = mul i64 %line, {LINE}
  %own = getelementptr i64, ptr %array, i64 %place
  %small = load float, ptr %array
  %half = fmul float %small, 0.5
  %bits = bitcast float %half to i32
  %wide = zext i32 %bits to i64
  store i64 %wide, ptr %own
  ret void
}}

; threads other than the first count to array[0] before they answer
define void @late(ptr %array, i64 %thread, i64 %threads, ptr %control) {{
  %first = icmp eq i64 %thread, 0
  br i1 %first, label %out, label %work
work:
  %count = load i64, ptr %array
  %place = mul i64 %thread, {LINE}
  %own = getelementptr i64, ptr %array, i64 %place
  br label %again
again:
  %i = phi i64 [ 0, %work ], [ %next, %again ]
  %next = add i64 %i, 1
  store volatile i64 %next, ptr %own
  %on = icmp slt i64 %next, %count
  br i1 %on, label %again, label %out
out:
  ret void
}}
"""

LIBRARY = load([compile_text(TEXT, host())])


def run(name, array, *, threads=2, hold_gil=False):
    pool.run(LIBRARY.address(name), array.ctypes.data, threads=threads, hold_gil=hold_gil)


def zeros(threads):
    return np.zeros((threads + 1, LINE), np.int64)


def check_exchange(threads, rounds=10, *, hold_gil=False):
    """Run rounds of barriers; true if each thread saw what all others wrote in each round."""
    array = zeros(threads)
    array[0, 0] = rounds
    run("exchange", array, threads=threads, hold_gil=hold_gil)
    took_part = int((array[1:, 1] > 0).sum())
    expected = took_part * rounds * (rounds + 1) // 2
    return took_part in {1, threads} and (array[1 : 1 + took_part, 1] == expected).all()
