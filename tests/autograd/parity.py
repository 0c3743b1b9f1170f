"""One program, two libraries: its results agree, or both refuse it."""

import numpy as np

import ganglion as gg


def outcome(program, library):
    """The arrays that a program returns, or the word for its refusal."""
    try:
        found = program(library)
    except RuntimeError:
        return "refused"
    return [None if x is None else _array(x) for x in found]


def _array(x):
    return x.detach().numpy() if hasattr(x, "detach") else np.asarray(x)


def assert_parity(program, torch, rtol=1e-6):
    """Both libraries return equal arrays (and None where the other does), or both raise."""
    ours, theirs = outcome(program, gg), outcome(program, torch)
    if isinstance(theirs, str) or isinstance(ours, str):
        assert ours == theirs
        return
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert (mine is None) == (reference is None)
        if reference is not None:
            np.testing.assert_allclose(mine, reference, rtol=rtol, atol=1e-7)
