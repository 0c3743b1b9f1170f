"""The loop: what it computes, what it reports, how it ends."""

import math
import signal

import numpy as np
import pytest

import ganglion as gg
from ganglion import nn, optim
from ganglion.data import DataLoader, IterableDataset, TensorDataset
from ganglion.errors import (
    ArgumentError,
    ArgumentTypeError,
    CheckpointError,
    DataError,
    NonFiniteError,
)
from ganglion.serialize import load
from ganglion.train import Callback, Outcome, StopTraining, Trainer
from tests.train.program import StopAfter, data, model, trainer

SCHEDULES = optim.lr_scheduler


def weights(network):
    return {name: t.numpy().tobytes() for name, t in network.state_dict().items()}


def fitted(train=None, valid=None, epochs=2, batch_size=8, **options):
    work = trainer(**options)
    work.fit(data() if train is None else train, valid, epochs=epochs, batch_size=batch_size)
    return work


class Call(Callback):
    """Calls a function at the end of one step, or of every step."""

    def __init__(self, function, step=None):
        self.function, self.step = function, step

    def on_step_end(self, trainer, step):
        if self.step in {None, step.step}:
            self.function()


def press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


# --- what it computes ---------------------------------------------------------------------------


def test_it_computes_what_a_loop_written_by_hand_computes():
    work = fitted(epochs=3, compile=False)
    network, loss = model(), nn.CrossEntropyLoss()
    optimizer = optim.Adam(network.parameters(), lr=0.05)
    schedule = SCHEDULES.CosineAnnealingLR(optimizer, T_max=6)
    loader = DataLoader(TensorDataset(*data()), 8, shuffle=True, seed=0)
    gg.manual_seed(0)
    network.train()
    losses = []
    for _ in range(3):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            value = loss(network(x), y)
            value.backward()
            optimizer.step()
            total += value.item() * len(x)
        losses.append(total / 43)
        schedule.step()
    assert weights(work.model) == weights(network)
    assert [record["loss"] for record in work.history] == losses


def test_training_learns():
    history = fitted(data(400), epochs=10, scheduler=None).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["accuracy"] > history[0]["accuracy"]


def test_records_hold_these_columns_in_this_order():
    work = fitted(valid=data(20, 1))
    assert [list(record) for record in work.history] == [
        ["epoch", "step", "lr", "loss", "accuracy", "valid_loss", "valid_accuracy"]
    ] * 2
    assert [(record["epoch"], record["step"]) for record in work.history] == [(1, 6), (2, 12)]
    assert work.history[0]["lr"] == 0.05


def test_every_form_of_data_gives_the_same_training():
    x, y = data()
    forms = [
        (x, y),
        [gg.from_numpy(x), gg.from_numpy(y)],
        TensorDataset(x, y),
    ]
    found = [fitted(form).history for form in forms]
    loader = DataLoader(TensorDataset(x, y), 8, shuffle=True, seed=0)
    found.append(fitted(loader, batch_size=None).history)
    assert found[1:] == found[:-1]


def test_the_seed_decides_everything_whatever_came_before():
    gg.manual_seed(5)
    one = fitted(seed=7)
    gg.manual_seed(6)
    assert one.history == fitted(seed=7).history
    assert one.history != fitted(seed=8).history


def test_accumulated_batches_make_the_step_of_one_large_batch():
    def run(batch_size, accumulate):
        gg.manual_seed(0)
        network = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        x, y = data()
        pair = (x.astype(np.float64), y)
        options = dict(network=network, optimizer="sgd", accumulate=accumulate)
        return fitted(pair, epochs=3, batch_size=batch_size, **options)

    small, large = run(5, 4), run(20, 1)  # 43 samples: the last group is one batch of 3
    assert small.state.step == large.state.step == 9
    for a, b in zip(small.model.parameters(), large.model.parameters(), strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10)


def test_gradients_are_clipped_before_the_step():
    norms = []
    network = model()

    def measure():
        gradients = [p.grad.numpy().ravel() for p in network.parameters()]
        norms.append(float(np.linalg.norm(np.concatenate(gradients))))

    fitted(network=network, clip_grad_norm=1e-3, callbacks=[Call(measure)], compile=False)
    assert norms == pytest.approx([1e-3] * 12, rel=1e-2)


# --- schedules ----------------------------------------------------------------------------------


def scheduled(make, interval, epochs=3, **options):
    network = model()
    optimizer = optim.SGD(network.parameters(), lr=0.1)
    work = Trainer(
        network, nn.CrossEntropyLoss(), optimizer, scheduler=make(optimizer),
        scheduler_interval=interval, progress=False, seed=0, **options,
    )  # fmt: skip
    work.fit(data(), epochs=epochs, batch_size=8)
    return work


def test_a_schedule_steps_after_each_epoch_or_each_step():
    by_epoch = scheduled(lambda o: SCHEDULES.StepLR(o, 1, 0.5), "epoch")
    assert [r["lr"] for r in by_epoch.history] == [0.1, 0.05, 0.025]
    by_step = scheduled(lambda o: SCHEDULES.StepLR(o, 6, 0.5), "step")
    assert by_step.optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)
    assert by_step.scheduler.last_epoch == 18


def test_plateau_schedules_get_the_monitored_value():
    seen = []

    class Plateau(SCHEDULES.ReduceLROnPlateau):
        def step(self, metrics, epoch=None):
            seen.append(metrics)
            super().step(metrics)

    work = scheduled(Plateau, "epoch")
    assert seen == [record["loss"] for record in work.history]
    seen.clear()
    work = scheduled(
        lambda o: Plateau(o, mode="max"), "epoch", metrics=["accuracy"], monitor="accuracy"
    )
    assert seen == [record["accuracy"] for record in work.history]


def test_a_plateau_that_looks_the_wrong_way_is_refused():
    plateau = SCHEDULES.ReduceLROnPlateau
    with pytest.raises(ArgumentError, match="mode='max'"):
        scheduled(plateau, "epoch", metrics=["accuracy"], monitor="accuracy")
    with pytest.raises(ArgumentError, match="scheduler_interval='epoch'"):
        scheduled(plateau, "step")


# --- validation, evaluation, prediction ---------------------------------------------------------


def test_validation_runs_in_inference_mode_and_the_model_goes_back_to_training():
    modes = []

    class Watched(nn.Linear):
        def forward(self, x):
            modes.append((self.training, gg.is_grad_enabled()))
            return super().forward(x)

    network = Watched(6, 3)
    fitted(valid=data(20, 1), network=network, epochs=2, compile=False)
    assert modes == ([(True, True)] * 6 + [(False, False)]) * 2
    assert network.training


def test_evaluate_repeats_what_training_reported():
    valid = data(300, 1)  # more than one batch
    work = fitted(valid=valid)
    found = work.evaluate(valid)
    assert found == {
        "loss": work.history[-1]["valid_loss"],
        "accuracy": work.history[-1]["valid_accuracy"],
    }


def test_evaluate_weighs_batches_by_their_samples():
    work, (x, y) = trainer(), data()
    work.model.eval()
    whole = nn.CrossEntropyLoss()(work.model(gg.from_numpy(x)), gg.from_numpy(y)).item()
    assert work.evaluate((x, y), batch_size=8)["loss"] == pytest.approx(whole, rel=1e-6)
    assert work.evaluate((x, y))["loss"] == whole


def test_metrics_that_are_no_numbers_stay_out_of_the_history():
    work = fitted(metrics=["accuracy", "confusion_matrix"])
    assert "confusion_matrix" not in work.history[0]
    assert work.evaluate(data())["confusion_matrix"].sum() == 43


def test_predict_gives_outputs_in_order_for_any_form_of_inputs():
    work, (x, y) = trainer(), data()
    work.model.eval()
    expected = work.model(gg.from_numpy(x)).detach().numpy()
    work.model.train()
    loader = DataLoader(TensorDataset(x, y), 10)
    for inputs in (x, gg.from_numpy(x), (x,), (x, y), TensorDataset(x), loader):
        found = work.predict(inputs)
        assert not found.requires_grad
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert work.model.training


def test_predict_refuses_an_order_that_is_lost():
    loader = DataLoader(TensorDataset(*data()), 8, shuffle=True)
    with pytest.raises(ArgumentError, match="shuffle=False"):
        trainer().predict(loader)


def test_batches_of_another_form_need_only_compute():
    class Auto(Trainer):
        def compute(self, batch):
            outputs = self.model(batch["x"])
            return outputs, batch["x"], self.loss(outputs, batch["x"])

    class Rows(gg.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            return {"x": gg.full((4,), float(index))}

    network = nn.Linear(4, 4)
    optimizer = optim.SGD(network.parameters(), lr=1e-3)
    work = Auto(network, nn.MSELoss(), optimizer, metrics=["mse"], progress=False, seed=0)
    history = work.fit(Rows(), epochs=2, batch_size=4).history
    assert history[1]["loss"] < history[0]["loss"]
    assert history[0]["mse"] == pytest.approx(history[0]["loss"])


# --- which epoch is best, and when to stop ------------------------------------------------------


def scripted(losses, **options):
    """A training with these validation losses, its result, and its weights after every epoch."""
    work = trainer(metrics=[], **options)
    work._validated = lambda: {"valid_loss": losses[work.state.epoch]}
    states = []

    class Record(Callback):
        def on_epoch_end(self, trainer, record):
            states.append(weights(trainer.model))

    work.callbacks.append(Record())
    result = work.fit(data(), data(20, 1), epochs=len(losses), batch_size=8)
    return work, result, states


def test_early_stopping_ends_with_the_best_weights():
    work, result, states = scripted((0.9, 0.5, 0.6, 0.5, 0.7, 0.1), patience=3)
    assert result.outcome is Outcome.STOPPED_EARLY
    assert len(result.history) == 5
    assert result.best is result.history[1]
    assert weights(work.model) == states[1]
    assert "restored" in result.message


def test_patience_begins_anew_with_every_better_epoch():
    losses = (0.9, 1.0, 0.5, 0.6, 0.4)
    assert scripted(losses, patience=2)[1].outcome is Outcome.FINISHED


def test_the_best_weights_return_when_the_epochs_run_out():
    work, result, states = scripted((0.9, 0.5, 0.6), patience=5)
    assert result.outcome is Outcome.FINISHED
    assert weights(work.model) == states[1]


def test_without_patience_the_last_weights_stay_unless_wanted():
    work, _, states = scripted((0.9, 0.5, 0.6))
    assert weights(work.model) == states[2]
    work, _, states = scripted((0.9, 0.5, 0.6), restore_best=True)
    assert weights(work.model) == states[1]


def test_nan_is_never_best():
    nan = math.nan
    _, result, _ = scripted((nan, 0.2, nan, 0.3))
    assert result.best["epoch"] == 2
    work, result, _ = scripted((nan, nan, nan), patience=2)
    assert result.outcome is Outcome.STOPPED_EARLY
    assert result.best is None
    assert work.best_weights is None


def test_more_of_a_metric_may_be_better():
    work = fitted(valid=data(40, 1), epochs=5, monitor="accuracy")
    found = [record["valid_accuracy"] for record in work.history]
    assert work.state.best == max(found) > min(found)
    assert work.state.best_epoch == found.index(max(found)) + 1  # the first of equals


def test_less_loss_is_better_and_training_loss_counts_without_validation():
    work = fitted(epochs=4)
    losses = [record["loss"] for record in work.history]
    assert work.state.best == min(losses)
    assert work.state.best_epoch == losses.index(min(losses)) + 1


def test_an_exception_passes_through_and_the_best_weights_return():
    states = {}
    work = trainer(patience=2)

    class Fail(Callback):
        def on_epoch_end(self, trainer, record):
            states[record["epoch"]] = weights(trainer.model)

        def on_step_end(self, trainer, step):
            if step.step == 15:
                raise DataError("broken file")

    work.callbacks.append(Fail())
    with pytest.raises(DataError, match="broken file"):
        work.fit(data(), epochs=5, batch_size=8)
    assert weights(work.model) == states[work.state.best_epoch]


def test_fitting_again_trains_on():
    work = fitted(epochs=2)
    result = work.fit(data(), epochs=3, batch_size=8)
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4, 5]
    assert [record["step"] for record in result.history] == [6, 12, 18, 24, 30]


# --- events -------------------------------------------------------------------------------------


class Log(Callback):
    def __init__(self):
        self.seen = []

    def on_fit_start(self, trainer):
        self.seen.append("start")

    def on_epoch_start(self, trainer):
        self.seen.append("epoch")

    def on_step_end(self, trainer, step):
        self.seen.append(step[:2])

    def on_epoch_end(self, trainer, record):
        self.seen.append(record is trainer.history[-1])

    def on_fit_end(self, trainer, result):
        self.seen.append(result.outcome)


def test_events_come_in_order():
    log = Log()
    fitted(data(16), callbacks=[log])
    epochs = ["epoch", (1, 1), (1, 2), True, "epoch", (2, 3), (2, 4), True]
    assert log.seen == ["start", *epochs, Outcome.FINISHED]


def test_a_failing_training_tells_its_callbacks():
    log = Log()

    def fail():
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fitted(callbacks=[log, Call(fail, 2)])
    assert log.seen == ["start", "epoch", (1, 1), (1, 2), Outcome.FAILED]


class Stop(Callback):
    def __init__(self, event):
        def stop(*args):
            raise StopTraining("enough")

        setattr(self, event, stop)


@pytest.mark.parametrize(
    ("event", "steps", "epochs"),
    [("on_fit_start", 0, 0), ("on_step_end", 1, 0), ("on_epoch_end", 6, 1)],
)
def test_a_callback_may_end_training(event, steps, epochs):
    work = trainer(callbacks=[Stop(event)])
    result = work.fit(data(), epochs=2, batch_size=8)
    assert result.outcome is Outcome.STOPPED
    assert "enough" in result.message
    assert (work.state.step, len(result.history)) == (steps, epochs)


# --- losses that are not finite -----------------------------------------------------------------


def spoiled(at):
    """Data in loader order, with NaN in the batch ``at`` (from 1)."""
    x, y = data(40)
    x[8 * (at - 1)] = np.nan
    return DataLoader(TensorDataset(x, y), 8)


def test_a_nan_loss_stops_with_its_place(tmp_path):
    work = trainer(tmp_path / "run")
    place = r"loss is nan in epoch 1, step 3 \(batch 3 "
    with pytest.raises(NonFiniteError, match=place) as raised:
        work.fit(spoiled(3), epochs=1)
    assert str(tmp_path / "run") in str(raised.value)
    assert "Not finite since" not in str(raised.value)


def test_the_state_before_the_bad_step_is_saved_and_runs_into_it_again(tmp_path):
    work = trainer(tmp_path / "run")
    with pytest.raises(NonFiniteError):
        work.fit(spoiled(3), epochs=1)
    saved = load(tmp_path / "run" / "last.safetensors")
    assert saved["state"]["step"] == 2
    assert saved["loaders"]["train"]["batches"] == 2
    again = trainer(tmp_path / "run")
    with pytest.raises(NonFiniteError, match="step 3"):
        again.fit(spoiled(3), epochs=1, resume=True)
    clean = trainer(callbacks=[StopAfter(2)])
    clean.fit(spoiled(3), epochs=1)
    assert {k: t.numpy().tobytes() for k, t in saved["model"].items()} == weights(clean.model)


class Counting(nn.Module):
    """A buffer that every training forward changes, as batch norm's statistics."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)
        self.register_buffer("seen", gg.zeros(6))

    def forward(self, x):
        if self.training:
            with gg.no_grad():
                self.seen.add_(x.sum(0))
        return self.inner(x)


def test_buffers_and_random_numbers_of_the_bad_step_are_taken_back(tmp_path):
    class Draw(Counting):
        def forward(self, x):
            return super().forward(x) + 0 * gg.rand(1)

    work = trainer(tmp_path / "run", Draw())
    with pytest.raises(NonFiniteError):
        work.fit(spoiled(2), epochs=1)
    x, _ = data(40)
    np.testing.assert_allclose(work.model.seen.numpy(), x[:8].sum(0), rtol=1e-5)
    saved = load(tmp_path / "run" / "last.safetensors")
    np.testing.assert_allclose(saved["model"]["seen"].numpy(), x[:8].sum(0), rtol=1e-5)
    assert gg.get_rng_state().tolist() == saved["random"]["ganglion"].tolist() == [0, 1]


def test_poisoned_parameters_never_replace_a_good_checkpoint(tmp_path):
    work = trainer(tmp_path / "run", checkpoint_steps=1)

    def poison():
        with gg.no_grad():
            next(work.model.parameters()).fill_(math.inf)

    work.callbacks.append(Call(poison, 3))
    with pytest.raises(NonFiniteError, match=r"step 4 .* since an earlier step: 0\.weight"):
        work.fit(data(), epochs=1, batch_size=8)
    assert load(tmp_path / "run" / "last.safetensors")["state"]["step"] == 2


def test_a_model_that_is_not_finite_from_the_start_is_refused():
    network = model()
    with gg.no_grad():
        network[0].bias.fill_(math.nan)
    with pytest.raises(NonFiniteError, match=r"before training, in 0\.bias"):
        trainer(network=network).fit(data(), epochs=1)


# --- Ctrl-C -------------------------------------------------------------------------------------


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path, capfd):
    work = trainer(
        tmp_path / "run", callbacks=[Call(press_ctrl_c, 8)], resume_hint="run: ganglion resume it"
    )
    result = work.fit(data(), data(20, 1), epochs=3, batch_size=8)
    assert result.outcome is Outcome.INTERRUPTED
    assert work.state.step == 8
    assert "ganglion resume it" in result.message
    assert "ganglion resume it" in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    resumed = trainer(tmp_path / "run")
    resumed.fit(data(), data(20, 1), resume=True, batch_size=8)
    whole = fitted(valid=data(20, 1), epochs=3)
    assert resumed.history == whole.history
    assert weights(resumed.model) == weights(whole.model)


def test_ctrl_c_during_validation_repeats_the_validation(tmp_path):
    class Press(nn.Sequential):
        presses = 1

        def forward(self, x):
            if not self.training and self.presses:
                self.presses -= 1
                press_ctrl_c()
            return super().forward(x) + 0 * gg.rand(1)

    whole = Press(*model())
    whole.presses = 0
    expected = fitted(valid=data(300, 1), network=whole, compile=False)
    pressed = trainer(tmp_path / "run", Press(*model()), compile=False)
    first = pressed.fit(data(), data(300, 1), epochs=2, batch_size=8)
    assert (first.outcome, first.history) == (Outcome.INTERRUPTED, [])
    again = pressed.fit(data(), data(300, 1), resume=True, batch_size=8)
    assert again.history == expected.history
    assert weights(pressed.model) == weights(expected.model)


def test_a_second_ctrl_c_raises_and_the_best_weights_return(tmp_path):
    work = trainer(tmp_path / "run", patience=3)
    best = {}

    class Twice(Callback):
        def on_epoch_end(self, trainer, record):
            best.update(weights(trainer.model))

        def on_step_end(self, trainer, step):
            if step.step == 8:
                press_ctrl_c()
                press_ctrl_c()

    work.callbacks.append(Twice())
    with pytest.raises(KeyboardInterrupt):
        work.fit(data(), epochs=3, batch_size=8)
    assert weights(work.model) == best
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_without_a_run_folder_says_that_nothing_is_saved():
    result = trainer(callbacks=[Call(press_ctrl_c, 2)]).fit(data(), epochs=3, batch_size=8)
    assert result.outcome is Outcome.INTERRUPTED
    assert "Nothing was saved" in result.message


# --- resume -------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path):
    """A run folder of a training that was stopped in its second epoch."""
    work = trainer(tmp_path / "run", callbacks=[StopAfter(8)], data_hash="abc")
    work.fit(data(), epochs=3, batch_size=8)
    return tmp_path / "run"


def test_resume_without_epochs_goes_on_to_those_asked_for_at_first(stopped):
    work = trainer(stopped, data_hash="abc")
    assert len(work.fit(data(), resume=True, batch_size=8).history) == 3


def test_resume_can_go_further_and_stays_exact(stopped):
    work = trainer(stopped, data_hash="abc")
    work.fit(data(), epochs=4, resume=True, batch_size=8)
    assert weights(work.model) == weights(fitted(epochs=4).model)


def test_a_sgd_run_with_a_prefetching_loader_resumes_exactly(tmp_path):
    def loader():
        return DataLoader(TensorDataset(*data()), 8, shuffle=True, num_workers=1)

    def work(folder, **options):
        gg.manual_seed(3)
        return trainer(folder, optimizer="sgd", accumulate=2, seed=None, **options)

    gg.manual_seed(3)
    whole = work(None)
    gg.manual_seed(4)  # the loader draws its seed from the default generator
    whole.fit(loader(), epochs=3)
    gg.manual_seed(4)
    first = work(tmp_path / "run", callbacks=[StopAfter(5)])
    gg.manual_seed(4)
    first.fit(loader(), epochs=3)
    resumed = work(tmp_path / "run")
    resumed.fit(loader(), resume=True)
    assert resumed.history == whole.history
    assert weights(resumed.model) == weights(whole.model)


def test_a_stream_resumes_exactly(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            x, y = data()
            return iter(zip(gg.from_numpy(x), gg.from_numpy(y), strict=True))

    whole = fitted(Stream())
    trainer(tmp_path / "run", callbacks=[StopAfter(8)]).fit(Stream(), epochs=2, batch_size=8)
    resumed = trainer(tmp_path / "run")
    resumed.fit(Stream(), resume=True, batch_size=8)
    assert weights(resumed.model) == weights(whole.model)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (dict(network=model(9)), r"out_features=8.* when saved, .*out_features=9.* now"),
        (dict(optimizer="sgd"), r"optimizer: Adam .*SGD"),
        (dict(seed=1), "seed: 0 when saved, 1 now"),
        (dict(data_hash="xyz"), "data_hash: abc when saved, xyz now"),
        (dict(accumulate=2), "accumulate: 1 when saved, 2 now"),
        (dict(scheduler=None), "scheduler: CosineAnnealingLR when saved"),
        (dict(metrics=[]), "metrics: "),
        (dict(batch_size=4), "batches_per_epoch: 6 when saved, 11 now"),
    ],
)
def test_resume_refuses_what_has_changed(stopped, change, named):
    batch_size = change.pop("batch_size", 8)
    work = trainer(stopped, **{"data_hash": "abc", **change})
    before = weights(work.model)
    with pytest.raises(CheckpointError, match=named) as raised:
        work.fit(data(), resume=True, batch_size=batch_size)
    assert "allow_different" in str(raised.value)
    assert weights(work.model) == before


def test_resume_refuses_another_numpy_or_thread_count(stopped, monkeypatch):
    monkeypatch.setattr(np, "__version__", "9.9")
    monkeypatch.setattr("ganglion.train.environment.get_num_threads", lambda: 77)
    with pytest.raises(CheckpointError, match=r"numpy: .* 9\.9 now\n.*threads: .* 77 now"):
        trainer(stopped, data_hash="abc").fit(data(), resume=True, batch_size=8)


def test_resume_refuses_parameters_in_another_order(stopped):
    network = model()
    named = dict(network.named_parameters())
    order = ["0.weight", "3.weight", "0.bias", "3.bias"]
    optimizer = optim.Adam([named[name] for name in order], lr=0.05)
    work = Trainer(network, nn.CrossEntropyLoss(), optimizer, run_dir=stopped, progress=False)
    with pytest.raises(CheckpointError, match=r"parameters: \[\['0.weight', '0.bias'"):
        work.fit(data(), resume=True, batch_size=8)


def test_other_bits_can_be_allowed(stopped):
    work = trainer(stopped, data_hash="xyz", seed=1)
    work.fit(data(), resume=True, allow_different=True, batch_size=8)
    assert work.history == fitted(epochs=3).history  # the saved state wins


def test_a_run_is_not_overwritten(stopped):
    with pytest.raises(ArgumentError, match="holds a run already"):
        trainer(stopped).fit(data(), epochs=1)


def test_resume_needs_a_run_folder_and_a_checkpoint_of_ours(tmp_path, stopped):
    with pytest.raises(ArgumentError, match="needs the run_dir"):
        trainer().fit(data(), resume=True)
    gg.save({"w": gg.ones(1)}, stopped / "last.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint of a Trainer"):
        trainer(stopped).fit(data(), resume=True)


def test_a_best_from_the_future_is_mended(tmp_path):
    """Killed after writing `best` and long before `last`: both must tell of the same epoch."""
    folder = tmp_path / "run"
    trainer(folder, callbacks=[StopAfter(13)]).fit(data(), epochs=3, batch_size=8)  # epochs 1 and 2
    early = tmp_path / "early"
    trainer(early, callbacks=[StopAfter(8)]).fit(data(), epochs=3, batch_size=8)  # epoch 1
    (early / "last.safetensors").rename(folder / "last.safetensors")
    assert load(folder / "best.safetensors")["state"]["best_epoch"] == 2
    work = trainer(folder, callbacks=[Call(press_ctrl_c, 9)])
    work.fit(data(), resume=True, batch_size=8)
    best = load(folder / "best.safetensors")
    assert best["state"]["best_epoch"] == 1
    assert {k: t.numpy().tobytes() for k, t in best["model"].items()} == {
        k: t.numpy().tobytes() for k, t in work.best_weights.items()
    }


# --- settings that cannot be meant --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(accumulate=0), "accumulate must be positive"),
        (dict(patience=0), "patience must be positive"),
        (dict(clip_grad_norm=-1.0), "clip_grad_norm must be positive"),
        (dict(monitor="acuracy"), "Did you mean 'accuracy'"),
        (dict(monitor="valid_loss"), "no prefix"),
        (dict(metrics=["confusion_matrix"], monitor="confusion_matrix"), "none of loss"),
        (dict(scheduler_interval="batch"), "'epoch' or 'step'"),
        (dict(metrics=["accuracy", "accuracy"]), "names of their own"),
        (dict(metrics=["acuracy"]), "Did you mean 'accuracy'"),
    ],
)
def test_settings_without_meaning_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        trainer(**options)


def test_an_optimizer_or_schedule_of_something_else_is_refused():
    other = optim.Adam(model().parameters())
    with pytest.raises(ArgumentError, match=r"model\.parameters\(\)"):
        Trainer(model(), nn.CrossEntropyLoss(), other)
    with pytest.raises(ArgumentError, match="another optimizer"):
        trainer(scheduler=SCHEDULES.StepLR(other, 1))
    with pytest.raises(ArgumentTypeError, match="Callback objects"):
        trainer(callbacks=[print])


def test_fit_needs_epochs_and_batches():
    with pytest.raises(ArgumentError, match="epochs from 1 on"):
        trainer().fit(data())
    with pytest.raises(ArgumentError, match="no batches"):
        fitted(DataLoader(TensorDataset(*data(4)), 8, drop_last=True), batch_size=None)
