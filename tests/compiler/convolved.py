"""A convolution that is heavy enough for a compiled kernel: 118 MFLOP."""

import numpy as np

import ganglion as gg
from ganglion.nn import functional as F


def images(*shape, seed=0):
    return gg.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


X, W = images(32, 16, 20, 20), images(32, 16, 3, 3, seed=1)


def convolved():
    """The convolution and its gradients."""
    x, w = X.detach().requires_grad_(), W.detach().requires_grad_()
    y = F.conv2d(x, w, padding=1)
    (y * y).sum().backward()
    return [t.detach().numpy() for t in (y, x.grad, w.grad)]
