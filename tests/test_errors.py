import inspect

import pytest

from ganglion import errors

ALL = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.GanglionError)
]


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_is_ours_and_drawn_in_the_tree(error):
    with pytest.raises(errors.GanglionError, match="what went wrong"):
        raise error("what went wrong")
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ShapeError, RuntimeError),
        (errors.DTypeError, RuntimeError),
        (errors.IndexingError, IndexError),
        (errors.ArgumentError, ValueError),
        (errors.ArgumentTypeError, TypeError),
        (errors.AutogradError, RuntimeError),
        (errors.NonFiniteError, RuntimeError),
        (errors.TraceError, RuntimeError),
        (errors.GraphError, RuntimeError),
        (errors.DataError, ValueError),
        (errors.CheckpointError, RuntimeError),
        (errors.MissingExtraError, ImportError),
        (errors.NotFoundError, FileNotFoundError),
    ],
)
def test_code_that_catches_pytorchs_errors_catches_ours(error, builtin):
    with pytest.raises(builtin):
        raise error("what went wrong")
