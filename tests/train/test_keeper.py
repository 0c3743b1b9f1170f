"""When the files of a run are written, and what stands in run.json."""

import sys

import ganglion as gg
from ganglion.serialize import load
from ganglion.train import Callback
from tests.train.program import data, model, trainer


class Look(Callback):
    """The step that `last` stands at, seen after each step and epoch."""

    def __init__(self, folder):
        self.last, self.seen = folder / "last.safetensors", []

    def on_epoch_start(self, trainer):
        self.look()

    def on_step_end(self, trainer, step):
        self.look()

    def look(self):
        self.seen.append(load(self.last)["state"]["step"])


def looked(folder, **options):
    look = Look(folder)
    work = trainer(folder, callbacks=[look], **options)
    work.fit(data(), epochs=1, batch_size=8)
    return look.seen, load(look.last)["state"]["step"]


def test_last_is_written_at_the_start_and_at_the_end(tmp_path):
    assert looked(tmp_path / "run") == ([0] * 7, 6)


def test_last_is_written_every_so_many_steps(tmp_path):
    assert looked(tmp_path / "run", checkpoint_steps=2) == ([0, 0, 0, 2, 2, 4, 4], 6)


def test_last_is_written_every_so_many_seconds(tmp_path):
    assert looked(tmp_path / "run", checkpoint_seconds=0.0) == ([0, 0, 1, 2, 3, 4, 5], 6)


def test_best_is_written_when_an_epoch_is_better_and_only_then(tmp_path):
    work = trainer(tmp_path / "run", metrics=[])
    losses = [0.5, 0.7, 0.4]
    work._validated = lambda: {"valid_loss": losses[work.state.epoch]}
    epochs = []

    class Read(Callback):
        def on_epoch_start(self, trainer):
            best = tmp_path / "run" / "best.safetensors"
            epochs.append(load(best)["state"]["epoch"] if best.exists() else 0)

    work.callbacks.append(Read())
    work.fit(data(), data(20, 1), epochs=3, batch_size=8)
    assert epochs == [0, 1, 1]
    best = load(tmp_path / "run" / "best.safetensors")
    assert best["state"]["best"] == 0.4
    assert best["identity"]["monitor"] == "loss"


def test_the_record_says_with_what_and_how_it_was_trained(tmp_path):
    work = trainer(tmp_path / "run", model(), data_hash="abc")
    work.fit(data(), epochs=1, batch_size=8)
    record = work.folder.record()
    expected = {"ganglion": gg.__version__, "seed": 0, "data_hash": "abc", "outcome": "finished"}
    assert expected.items() <= record.items()
    assert record["command"] == sys.argv
    assert {"python", "numpy", "blas", "threads", "platform", "started", "seconds"} <= set(record)
    assert "resumed" not in record
    trainer(tmp_path / "run", data_hash="abc").fit(data(), epochs=2, resume=True, batch_size=8)
    assert "resumed" in work.folder.record()


def test_a_path_becomes_a_run_with_the_settings_in_its_config(tmp_path):
    work = trainer(tmp_path / "run", patience=2)
    work.fit(data(), epochs=1, batch_size=8)
    settings = work.folder.config()["trainer"]
    assert settings == {
        "seed": 0, "accumulate": 1, "monitor": "loss", "patience": 2,
        "scheduler_interval": "epoch",
    }  # fmt: skip
