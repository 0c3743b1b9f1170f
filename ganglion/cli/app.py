"""Commands and their options; what they do stands in the files beside this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganglion import cli
from ganglion.cli.settings import Settings
from ganglion.config import VERSION
from ganglion.errors import GanglionError

app = typer.Typer(
    name="ganglion",
    help="Train, evaluate and use neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
DEFAULT = Settings(data="")
INTERRUPTED = 130  # what shells expect after Ctrl-C

Run = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/digits-mlp-1.")]


@app.command()
def train(
    data: Annotated[str, typer.Argument(help="iris, digits, mnist, fashion-mnist, cifar10, or a CSV file.")],
    target: Annotated[str | None, typer.Option(help="Column of a CSV file to predict.")] = None,
    task: Annotated[
        str | None, typer.Option(help="classification or regression; inferred if not given.")
    ] = None,
    model: Annotated[str, typer.Option(help="Kind of network: mlp.")] = DEFAULT.model,
    hidden: Annotated[str, typer.Option(help="Hidden sizes, such as 128 or 256,64.")] = "128",
    activation: Annotated[str, typer.Option(help="Activation after each hidden layer.")] = (
        DEFAULT.activation
    ),
    dropout: Annotated[float, typer.Option(help="Probability of dropping hidden units.")] = (
        DEFAULT.dropout
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data, at most.")] = (
        DEFAULT.epochs
    ),
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per step.")] = DEFAULT.batch_size,
    optimizer: Annotated[str, typer.Option(help="adamw, adam, sgd, rmsprop or adagrad.")] = (
        DEFAULT.optimizer
    ),
    lr: Annotated[float, typer.Option(help="Learning rate.")] = DEFAULT.lr,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = DEFAULT.weight_decay,
    schedule: Annotated[
        str, typer.Option(help="cosine (down to 0 at the last step) or constant.")
    ] = DEFAULT.schedule,
    patience: Annotated[
        int, typer.Option(min=0, help="Epochs without improvement before stopping; 0: never.")
    ] = DEFAULT.patience,
    seed: Annotated[int, typer.Option(help="Same seed, same result.")] = DEFAULT.seed,
    checkpoint_every: Annotated[
        float, typer.Option(help="Seconds between checkpoints within an epoch.")
    ] = DEFAULT.checkpoint_every,
    output: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the run's folder.")] = None,
) -> None:
    """Train a network and report how good it is on data it never saw."""
    options = {k: v for k, v in locals().items() if k not in ("output", "name", "hidden")}
    settings = Settings.checked(**options, hidden=hidden)
    _finish(cli.training.start(settings, output, name))


@app.command()
def resume(
    run: Run,
    allow_different: Annotated[
        bool, typer.Option(help="Go on though versions or threads differ: other bits may result.")
    ] = False,
) -> None:
    """Continue a run that was stopped or killed, to the same result as without the stop."""
    _finish(cli.training.resume(run, allow_different))


@app.command()
def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(help="A named data set, or a CSV file with the target.")],
) -> None:
    """Measure a trained network. Of its own training data, only the test part is used."""
    cli.inspect.evaluate(run, data)


@app.command()
def predict(
    run: Run,
    file: Annotated[str, typer.Argument(help="CSV file, images (.npy, IDX, .png ...) or data set.")],
    output: Annotated[Path | None, typer.Option(help="CSV file to write; else printed.")] = None,
) -> None:
    """Predict every row of a file: class and probabilities, or the number."""
    cli.inspect.predict(run, file, output)


@app.command()
def summary(run: Run) -> None:
    """Show a run's network: layers, shapes, parameters, FLOPs, memory."""
    cli.inspect.summary(run)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ganglion {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, evaluate and use neural networks."""


def _finish(completed: bool) -> None:
    if not completed:
        raise typer.Exit(INTERRUPTED)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; 2 is for wrong usage."""
    try:
        app(arguments, prog_name="ganglion")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except GanglionError as error:
        return _fail(str(error))
    except (OSError, MemoryError) as error:
        return _fail(f"{type(error).__name__}: {error}")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
