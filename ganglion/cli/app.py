"""Commands and their options; what they do stands in the files beside this one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ganglion import cli
from ganglion.cli.settings import (
    EPOCHS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    STEPS,
    TASKS,
    Settings,
    sizes,
)
from ganglion.config import VERSION
from ganglion.errors import ArgumentError, GanglionError
from ganglion.models import ACTIVATIONS

app = typer.Typer(
    name="ganglion",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help is quicker and can be piped
    pretty_exceptions_enable=False,
)
DEFAULT = Settings(data="")
_EPOCHS = f"About {STEPS:,} steps, in {EPOCHS[0]} to {EPOCHS[1]} passes, if not given."
INTERRUPTED = 130  # what shells expect after Ctrl-C

Run = Annotated[Path, typer.Argument(help="Folder of a run, such as runs/digits-mlp-1.")]


@app.command()
def train(
    data: Annotated[
        str, typer.Argument(help="iris, digits, mnist, fashion-mnist, cifar10, or a CSV file.")
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of a CSV file to predict.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help=f"{' or '.join(TASKS)}; found out if not given.")
    ] = None,
    model: Annotated[
        str, typer.Option(help=f"Kind of network: {', '.join(MODELS)}; a cnn is for images.")
    ] = DEFAULT.model,
    hidden: Annotated[
        str, typer.Option(metavar="SIZES", help='Hidden sizes, such as 128 or 256,64; "" for none.')
    ] = ",".join(map(str, DEFAULT.hidden)),
    activation: Annotated[
        str, typer.Option(help=f"After each hidden layer: {', '.join(ACTIVATIONS)}.")
    ] = DEFAULT.activation,
    dropout: Annotated[
        float, typer.Option(help="Probability of dropping a hidden unit.")
    ] = DEFAULT.dropout,
    epochs: Annotated[
        int | None, typer.Option(help=f"Passes over the data, at most. {_EPOCHS}")
    ] = DEFAULT.epochs,
    batch_size: Annotated[int, typer.Option(help="Samples in a step.")] = DEFAULT.batch_size,
    optimizer: Annotated[
        str, typer.Option(help=f"{', '.join(OPTIMIZERS)}; sgd has momentum 0.9.")
    ] = DEFAULT.optimizer,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = DEFAULT.lr,
    weight_decay: Annotated[float, typer.Option(help="Weight decay.")] = DEFAULT.weight_decay,
    schedule: Annotated[
        str, typer.Option(help=f"Of the learning rate: {', '.join(SCHEDULES)}.")
    ] = DEFAULT.schedule,
    patience: Annotated[
        int, typer.Option(help="Epochs without a lower validation loss before stopping; 0: never.")
    ] = DEFAULT.patience,
    seed: Annotated[
        int, typer.Option(help="Decides split, start and order: same seed, same result.")
    ] = DEFAULT.seed,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time between checkpoints.")
    ] = DEFAULT.checkpoint_every,
    compile: Annotated[
        bool, typer.Option(help="Compile the steps; without it they run on NumPy.")
    ] = DEFAULT.compile,
    output: Annotated[
        Path, typer.Option(file_okay=False, help="Where run folders are made.")
    ] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(help="The run's folder is NAME-1, or the next free number.")
    ] = None,
) -> None:
    """Train a network and report how good it is on data it never saw."""
    options = {k: v for k, v in locals().items() if k not in {"output", "name", "hidden"}}
    try:
        settings = Settings(**options, hidden=sizes(hidden))
    except ArgumentError as error:
        raise typer.BadParameter(str(error)) from error
    _finish(cli.training.start(settings, output, name))


@app.command()
def resume(
    run: Run,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="Go on though versions or threads differ.")
    ] = False,
) -> None:
    """Continue a run that was stopped or killed, to the result it would have had."""
    _finish(cli.training.resume(run, allow_different))


@app.command()
def evaluate(
    run: Run,
    data: Annotated[str, typer.Argument(help="A named data set, or a CSV file with the target.")],
) -> None:
    """Measure a trained network; of its own training data, on the test part alone."""
    cli.inspect.evaluate(run, data)


@app.command()
def predict(
    run: Run,
    file: Annotated[
        str, typer.Argument(help="CSV file, images (.npy, IDX, .png ...) or a named data set.")
    ],
    output: Annotated[
        Path | None, typer.Option(dir_okay=False, help="CSV file to write; else it is printed.")
    ] = None,
) -> None:
    """Predict every row of a file: class and probabilities, or the number."""
    cli.inspect.predict(run, file, output)


@app.command()
def summary(run: Run) -> None:
    """Show a network's layers, shapes, parameters, FLOPs and memory."""
    cli.inspect.summary(run)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ganglion {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Train, evaluate and use neural networks."""


def _finish(completed: bool) -> None:
    if not completed:
        raise typer.Exit(INTERRUPTED)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code: 1 for what went wrong, 2 for wrong usage."""
    try:
        app(arguments, prog_name="ganglion")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except GanglionError as error:
        return _fail(str(error))
    except MemoryError as error:
        return _fail(f"out of memory: {error}")
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return 0


def _fail(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return 1
