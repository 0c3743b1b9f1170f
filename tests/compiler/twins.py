"""The same program twice: once eager, once compiled; everything must have the same bits."""

import numpy as np

import ganglion as gg
from ganglion import nn


def bits(x):
    """A tree of tensors as arrays."""
    if isinstance(x, gg.Tensor):
        return x.detach().numpy()
    if isinstance(x, dict):
        return {k: bits(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [bits(v) for v in x]
    return x


def assert_same(a, b):
    """Equal trees, bit for bit."""
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def compare(make, batches, **options):
    """Run ``make()`` -> (step, state, between) on batches, eagerly and compiled; the compiled step.

    ``state()`` is a tree of what the step changes; ``between(i)`` runs after each call.
    """
    found = []
    for wrap in (lambda f: f, lambda f: gg.compile(f, **options)):
        gg.manual_seed(0)
        step, state, between = make()
        step = wrap(step)
        outs = []
        for i, batch in enumerate(batches):
            outs.append(bits(step(*batch)))
            outs.append([x.copy() for x in leaves(bits(state()))])
            if between is not None:
                between(i)
        found.append((outs, bits(gg.get_rng_state())))
    assert_same(list(found[0]), list(found[1]))
    return step


def leaves(tree):
    """Arrays of a tree."""
    if isinstance(tree, dict):
        return [x for v in tree.values() for x in leaves(v)]
    if isinstance(tree, list):
        return [x for v in tree for x in leaves(v)]
    return [np.asarray(tree)]


def batches(sizes=(8, 8, 8, 8, 5), features=12, classes=5):
    """Inputs and targets."""
    gg.manual_seed(1)
    return [(gg.randn(n, features), gg.randint(0, classes, (n,))) for n in sizes]


def network(dropout=0.3):
    """A small classifier."""
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 5))


def training(optimizer="Adam", clip=None, **options):
    """A maker of a training step, for ``compare``."""

    def make():
        model = network()
        opt = getattr(gg.optim, optimizer)(model.parameters(), **options)
        criterion = nn.CrossEntropyLoss()

        def step(x, y):
            opt.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            opt.step()
            return loss

        def state():
            return [model.state_dict(), opt.state_dict()["state"]]

        schedule = gg.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
        return step, state, lambda i: schedule.step()

    return make
