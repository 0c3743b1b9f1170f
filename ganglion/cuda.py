"""PyTorch's ``torch.cuda``, for programs that ask: there is no such device."""

from __future__ import annotations


def is_available() -> bool:
    """Whether tensors can live on a GPU: no."""
    return False


def device_count() -> int:
    """The number of GPUs in use: none."""
    return 0


def manual_seed(seed: int) -> None:
    """Seed the GPU's generator: nothing to do without one, as in PyTorch."""


manual_seed_all = manual_seed


def synchronize(device: object = None) -> None:
    """Wait for the GPU: nothing to wait for."""


def empty_cache() -> None:
    """Free the GPU's unused memory: there is none."""
