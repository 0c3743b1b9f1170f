"""Lines that are sample calls of the op table, on values of the program."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import ganglion as gg
import ganglion.dtypes as dt
from ganglion.compiler.trace import trace
from ganglion.errors import TraceError
from ganglion.tensor import Tensor
from ganglion.tree import leaves
from tests.compiler.lines.fitting import shaped, whole
from tests.ops import samples

if TYPE_CHECKING:
    from tests.compiler.lines.fitting import Drawing, Found
    from tests.ops.samples import Input, Sample

SLOW = ("attention", "conv", "recurrent", "lstm")  # long to compile, so seldom drawn
APART = ("nonzero", "create", "special")  # shapes that depend on values; no inputs; steep
CALLS = {
    found.name: [s for s in importlib.import_module(f"{samples.__name__}.{found.name}").SAMPLES
                 if s.smooth and s.tolerance == 1 and s.specs]
    for found in pkgutil.iter_modules(samples.__path__) if found.name not in APART
}  # fmt: skip
FAMILIES = [name for name, members in CALLS.items() if members]


@cache
def traceable(sample: Sample) -> bool:
    """Whether a call does not look at values."""
    given = [gg.tensor(a) for a in sample.arrays(sample.dtypes[0])]
    try:
        trace(lambda *tensors: sample.run(gg, list(tensors)), *given)
    except TraceError:
        return False
    return True


def fitted(x: Tensor, spec: Input, dtype: str) -> Tensor:
    """A tensor as a sample wants it, from the numbers of a value."""
    kind = dt.BY_NAME[spec.dtype or dtype]
    if spec.given is not None or 0 in spec.shape:
        return gg.tensor(np.asarray(spec.given if spec.given is not None else
                                    np.zeros(spec.shape))).to(kind)  # fmt: skip
    source = x if x.dtype in (gg.float32, gg.float64) else x.double()
    found = shaped(source, spec.shape)
    if kind.category == dt.BOOL:
        return found > 0
    low, high = spec.low if kind.signed else max(spec.low, 0), spec.high
    if kind.category == dt.FLOATING:
        return (found * ((high - low) * 0.45) + (high + low) * 0.5).to(kind)
    low, high = int(np.ceil(low)), int(np.floor(high))
    return (whole(found.detach() * 5, high - low + 1) + low).to(kind)


def called(draw: Drawing, x: Tensor) -> Found:
    family = draw.pick(FAMILIES)
    if family in SLOW and draw.often(0.7):
        return None
    sample: Sample = draw.pick(CALLS[family])
    if not traceable(sample):
        return None
    name = x.dtype.name if x.dtype.name in sample.dtypes else draw.pick(sample.dtypes)

    def run(x: Tensor) -> list[Tensor]:
        found = sample.run(gg, [fitted(x, spec, name) for spec in sample.specs])
        return [y for y in leaves(found) if isinstance(y, Tensor)][:4]

    return f"{sample} in {name}", run, ()
