"""Training: the loop, its events, run folders, and exact resume.

    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"], seed=0)
    result = trainer.fit((x, y), valid=(x_valid, y_valid), epochs=10, batch_size=32)
    trainer.history                # [{"epoch": 1, "step": 47, "lr": ..., "loss": ..., ...}, ...]
    trainer.evaluate(test)         # {"loss": 0.21, "accuracy": 0.94}
    trainer.predict(x_new)         # outputs (N, ...)

With a run folder, training can be killed at any moment and continued to the same bits:

    folder = RunFolder.create("runs", "digits-mlp", config={...})     # runs/digits-mlp-1
    Trainer(..., run_dir=folder).fit(train, valid, epochs=10)
    Trainer(..., run_dir=RunFolder.open(folder.path)).fit(train, valid, resume=True)

A run folder holds config.toml (what the program wants to remember), run.json (versions, seed,
data hash), metrics.csv (one row an epoch), and best.safetensors and last.safetensors, each a
whole checkpoint: the model stands under "model" (`RunFolder.weights()` gives it alone).

Extension is by `Callback`, a closed set of events, and by overriding `Trainer.compute`.
"""

from ganglion.train.events import Callback, FitResult, Outcome, Step, StopTraining
from ganglion.train.run import RunFolder
from ganglion.train.trainer import Trainer

__all__ = ["Callback", "FitResult", "Outcome", "RunFolder", "Step", "StopTraining", "Trainer"]
