"""Lines that random programs are made of.

A kind of line is a function of the drawing and of a value to go on from: it gives a text, a
function of tensors, and the numbers of the other values that this takes; or None, if it cannot
go on from that value.
"""

from tests.compiler.lines import (
    elementwise,
    layers,
    lookups,
    movement,
    reductions,
    whole,
    writes,
)
from tests.compiler.lines.calls import called

VIEWS = (
    movement.permuted, movement.reshaped, movement.expanded, movement.sliced, movement.joined,
    movement.along, movement.along, movement.square,
)  # fmt: skip
FLOATING = (
    *(elementwise.unary,) * 6, *(elementwise.binary,) * 6, *(reductions.reduced,) * 4,
    *(reductions.row_wise,) * 4, *VIEWS, *VIEWS, movement.padded, *(layers.product,) * 3,
    *(layers.convolved,) * 3, *(layers.pooled,) * 2, *(layers.normed,) * 2, layers.attended,
    layers.lost, elementwise.chosen, *(lookups.looked_up,) * 3, lookups.embedded,
    elementwise.of_dtype, elementwise.truth, *(writes.written,) * 3, *(writes.changed,) * 2,
    writes.exchanged, whole.rounded, called, called, called,
)  # fmt: skip
WHOLE = (
    *(whole.binary,) * 4, *(whole.unary,) * 2, *(whole.along,) * 3, *VIEWS, movement.padded,
    whole.to_float, whole.to_float, whole.to_whole, writes.changed,
)  # fmt: skip
