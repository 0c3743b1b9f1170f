"""Gradients: the tape, the reverse walk over it, functions with rules of one's own, checks.

``backward`` and ``grad`` start the walk; ``Function`` adds an operation; ``gradcheck`` compares
gradients with finite differences; ``functional`` has Jacobians and Hessians; ``detect_anomaly``
finds the first NaN.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ganglion.autograd.anomaly import (
    detect_anomaly,
    is_anomaly_enabled,
    set_detect_anomaly,
)
from ganglion.autograd.walk import backward, grad
from ganglion.gradmode import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)

if TYPE_CHECKING:
    from ganglion.autograd import function, functional
    from ganglion.autograd.checks import gradcheck, gradgradcheck
    from ganglion.autograd.function import Function

__all__ = [
    "backward", "grad",
    "Function", "function", "functional",
    "gradcheck", "gradgradcheck",
    "detect_anomaly", "is_anomaly_enabled", "set_detect_anomaly",
    "enable_grad", "inference_mode", "is_grad_enabled", "is_inference_mode_enabled", "no_grad",
    "set_grad_enabled",
]  # fmt: skip

_WHERE = {
    "Function": "function",
    "gradcheck": "checks",
    "gradgradcheck": "checks",
}


def __getattr__(name: str) -> Any:
    """Load what few programs use when it is first named."""
    if name in ("function", "functional"):
        return importlib.import_module(f"ganglion.autograd.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module 'ganglion.autograd' has no attribute {name!r}")
    found = getattr(importlib.import_module(f"ganglion.autograd.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
