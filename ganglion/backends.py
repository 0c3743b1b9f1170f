"""PyTorch's ``torch.backends``, for programs that ask or set switches: none of them exists."""

from __future__ import annotations


class _Absent:
    """A backend that is not there; switches set on it have no effect."""

    @staticmethod
    def is_available() -> bool:
        return False

    is_built = is_available


cuda, cudnn, mps = _Absent(), _Absent(), _Absent()
