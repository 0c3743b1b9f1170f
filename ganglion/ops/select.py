"""Choosing between values: where, masks, extremes and bounds; filling and copying in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import ganglion.dtypes as dt
from ganglion.dispatch import write
from ganglion.errors import DTypeError, ShapeError
from ganglion.ops.create import full
from ganglion.ops.elementwise import Array, Operand, binary, choose, joined, of_two
from ganglion.ops.movement import cast, clone, expand
from ganglion.ops.record import Op, Saved, into
from ganglion.shapes import Meta, broadcast_shapes, shape_of

if TYPE_CHECKING:
    from ganglion.tensor import Tensor
