"""Kernels with a shape of their own: products, convolutions, attention, recurrences."""
