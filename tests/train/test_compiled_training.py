"""A Trainer that compiles its steps: the same bits as without (interpreted), and as exact."""

import json
import math
import warnings

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn, optim
from ganglion.data import DataLoader, TensorDataset
from ganglion.errors import AutogradError, CheckpointError, NonFiniteError
from ganglion.serialize import load
from ganglion.train import Callback, Outcome, Trainer
from tests.train.program import StopAfter, data, model, trainer


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    monkeypatch.setenv("GANGLION_COMPILER", "interpret")


def weights(network):
    return {name: t.numpy().tobytes() for name, t in network.state_dict().items()}


def fitted(compile, valid=True, epochs=3, **options):
    work = trainer(compile=compile, **options)
    work.fit(data(), data(20, 1) if valid else None, epochs=epochs, batch_size=8)
    return work


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "sgd", "clip_grad_norm": 0.1},
        {"accumulate": 3},
        {"scheduler": None, "patience": 1, "epochs": 4},
    ],
)
def test_compiled_training_has_the_bits_of_eager_training(options):
    eager, compiled = fitted(False, **options), fitted(True, **options)
    assert compiled.history == eager.history
    assert weights(compiled.model) == weights(eager.model)
    assert compiled._updated.specialisations
    assert compiled._computed.specialisations
    x, _ = data()
    assert compiled.predict(x).tolist() == eager.predict(x).tolist()
    assert compiled.evaluate(data()) == eager.evaluate(data())


def test_whole_and_odd_batches_have_one_trace_each():
    work = fitted(True)
    assert [s.calls for s in work._updated.specialisations] == [3, 15]
    assert "argument group: shape (8,) -> (3,)" in work._updated.explain()


def test_a_rate_that_changes_every_step_needs_no_new_trace():
    def run(compile):
        network = model()
        optimizer = optim.AdamW(network.parameters(), lr=0.05)
        schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 18)
        work = Trainer(
            network, nn.CrossEntropyLoss(), optimizer, scheduler=schedule, seed=0,
            scheduler_interval="step", progress=False, compile=compile,
        )  # fmt: skip
        work.fit(data(), epochs=3, batch_size=8)
        return work

    eager, compiled = run(False), run(True)
    assert weights(compiled.model) == weights(eager.model)
    assert len(compiled._updated.specialisations) == 2


def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(tmp_path):
    whole = fitted(True)
    for steps in (1, 7, 8):
        stopped = trainer(tmp_path / str(steps), callbacks=[StopAfter(steps)], compile=True)
        stopped.fit(data(), data(20, 1), epochs=3, batch_size=8)
        again = trainer(tmp_path / str(steps), compile=True)
        result = again.fit(data(), data(20, 1), resume=True, batch_size=8)
        assert result.outcome is Outcome.FINISHED
        assert again.history == whole.history
        assert weights(again.model) == weights(whole.model)


@pytest.mark.parametrize("started", [True, False])
def test_resume_refuses_to_switch_unless_told(tmp_path, started):
    stopped = trainer(tmp_path / "run", callbacks=[StopAfter(3)], compile=started)
    stopped.fit(data(), epochs=2, batch_size=8)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["compile"] == ("interpret" if started else "off")
    again = trainer(tmp_path / "run", compile=not started)
    with pytest.raises(CheckpointError, match=r"compile: (interpret|off) when saved"):
        again.fit(data(), resume=True, batch_size=8)
    again.fit(data(), resume=True, batch_size=8, allow_different=True)
    assert len(again.history) == 2


def spoiled(batch):
    x, y = data(40)
    x[8 * (batch - 1)] = np.nan
    return DataLoader(TensorDataset(x, y), 8)


class Counting(nn.Module):
    """State that every training forward changes: a buffer and random numbers."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.register_buffer("seen", gg.zeros(6))

    def forward(self, x):
        if self.training:
            with gg.no_grad():
                self.seen.add_(x.sum(0))
        return self.inner(x) + 0 * gg.rand(1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_with_a_bad_loss_changes_nothing(tmp_path, accumulate):
    work = trainer(tmp_path / "run", Counting(), accumulate=accumulate, compile=True)
    with pytest.raises(NonFiniteError, match="loss is nan in epoch 1"):
        work.fit(spoiled(2 * accumulate), epochs=1)
    saved = load(tmp_path / "run" / "last.safetensors")
    assert saved["state"]["step"] == 1
    assert {k: t.numpy().tobytes() for k, t in saved["model"].items()} == weights(work.model)
    assert gg.get_rng_state().tolist() == saved["random"]["ganglion"].tolist()
    assert np.isfinite(work.model.seen.numpy()).all()
    assert all(math.isfinite(s["step"].item()) for s in work.optimizer.state.values())
    assert {s["step"].item() for s in work.optimizer.state.values()} == {1}


class ByHand(Trainer):
    """Looks at values, which no trace can follow."""

    def compute(self, batch):
        x, y = batch
        out = self.model(x)
        loss = self.loss(out, y)
        return out, y, loss if loss.item() > 0 else loss * 2


def test_a_compute_that_cannot_be_traced_runs_eagerly_after_one_warning():
    def run(compile):
        network = model()
        work = ByHand(
            network, nn.CrossEntropyLoss(), optim.Adam(network.parameters()), seed=0,
            progress=False, compile=compile,
        )  # fmt: skip
        work.fit(data(), epochs=2, batch_size=8)
        return weights(work.model)

    with pytest.warns(UserWarning, match=r"runs eagerly: .*test_compiled_training.py:\d+") as seen:
        found = run(True)
    assert len(seen) == 1
    assert found == run(False)


def test_an_error_of_the_users_own_is_not_blamed_on_the_compiler():
    work = trainer(network=nn.Linear(5, 3), compile=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeError, match="Linear"):
            work.fit(data(), epochs=1, batch_size=8)


def test_gradients_are_not_there_for_callbacks():
    class Look(Callback):
        def on_step_end(self, trainer, step):
            next(trainer.model.parameters()).grad  # noqa: B018

    with pytest.raises(AutogradError, match="a Trainer: compile=False"):
        fitted(True, callbacks=[Look()])


def test_a_model_that_is_compiled_already():
    gg.manual_seed(0)
    eager, twin = fitted(False), gg.compile(model())
    optimizer = optim.Adam(twin.parameters(), lr=0.05)
    work = Trainer(
        twin, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], progress=False, seed=0,
        scheduler=optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6), compile=False,
    )  # fmt: skip
    work.fit(data(), data(20, 1), epochs=3, batch_size=8)
    assert weights(work.model) == weights(eager.model)


def test_what_callbacks_change_between_steps_is_seen():
    class Freeze(Callback):
        def on_step_end(self, trainer, step):
            if step.step == 4:
                trainer.model[0].weight.requires_grad_(False)
            if step.step == 8:
                trainer.model[2].p = 0.0

    eager, compiled = (fitted(c, callbacks=[Freeze()]) for c in (False, True))
    assert weights(compiled.model) == weights(eager.model)
    assert compiled.history == eager.history
