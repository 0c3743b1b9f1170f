"""Schedules give PyTorch's learning rates, epoch by epoch, and resume from their state."""

import pytest

import ganglion as gg

torch = pytest.importorskip("torch")

CASES = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 2, "gamma": 0.5}),
    ("LambdaLR", {"lr_lambda": lambda epoch: 0.9**epoch}),
    ("LambdaLR", {"lr_lambda": [lambda epoch: 1 / (epoch + 1), lambda epoch: 2.0]}),
    ("CosineAnnealingLR", {"T_max": 7}),
    ("CosineAnnealingLR", {"T_max": 4, "eta_min": 0.01}),
]
METRICS = [1.0, 0.9, 0.95, 0.9, 0.91, 0.9, 0.92, 0.5, 0.5, 0.51, 0.52, 0.5, 0.5, 0.5, 0.4]


def optimizer(lib):
    groups = [{"params": [lib.ones(1)], "lr": 0.1}, {"params": [lib.ones(1)], "lr": 0.5}]
    return lib.optim.SGD(groups, lr=0.1)


def rates(lib, name, options, steps=15):
    opt = optimizer(lib)
    schedule = getattr(lib.optim.lr_scheduler, name)(opt, **options)
    found = [schedule.get_last_lr()]
    for _ in range(steps):
        opt.step()
        schedule.step()
        found.append(schedule.get_last_lr())
    return found


@pytest.mark.parametrize(("name", "options"), CASES)
def test_rates_equal_pytorch(name, options):
    for ours, theirs in zip(rates(gg, name, options), rates(torch, name, options), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 1},
        {"patience": 0, "factor": 0.5, "cooldown": 2},
        {"patience": 1, "mode": "max"},
        {"patience": 1, "threshold": 0.05, "threshold_mode": "abs"},
        {"patience": 0, "min_lr": [0.01, 0.2], "eps": 1e-3},
    ],
)
def test_plateau_equals_pytorch(options):
    found = []
    for lib in (gg, torch):
        opt = optimizer(lib)
        schedule = lib.optim.lr_scheduler.ReduceLROnPlateau(opt, **options)
        rows = []
        for metric in METRICS:
            schedule.step(metric)
            rows.append([g["lr"] for g in opt.param_groups])
        found.append(rows)
    for ours, theirs in zip(*found, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(("name", "options"), [c for c in CASES if c[0] != "LambdaLR"])
def test_a_restored_schedule_continues(name, options):
    first = optimizer(gg)
    schedule = getattr(gg.optim.lr_scheduler, name)(first, **options)
    for _ in range(4):
        schedule.step()
    second = optimizer(gg)
    restored = getattr(gg.optim.lr_scheduler, name)(second, **options)
    second.load_state_dict(first.state_dict())
    restored.load_state_dict(schedule.state_dict())
    for _ in range(5):
        schedule.step()
        restored.step()
    assert restored.get_last_lr() == schedule.get_last_lr()


def test_initial_rate_is_needed_when_resuming_by_epoch():
    with pytest.raises(KeyError, match="initial_lr"):
        gg.optim.lr_scheduler.StepLR(optimizer(gg), 3, last_epoch=4)
