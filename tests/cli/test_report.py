"""What is measured, and how it reads."""

import pytest

from ganglion.cli.report import say_measures


@pytest.mark.parametrize(
    ("count", "found", "line"),
    [
        (1234, {"loss": 0.09124, "accuracy": 0.975}, "accuracy 97.50 %, loss 0.09124 (1,234 "),
        (
            10,
            {"loss": 0.25, "r2": 0.7512345, "mae": 31234.5, "rmse": 48001.2},
            "r2 0.7512, mae 31,234, rmse 48,001, loss 0.25 (10 ",
        ),
        (10, {"loss": 0.1, "mae": 0.0123456, "rmse": 999.94}, "mae 0.01235, rmse 999.9, loss 0.1"),
        (1, {"loss": float("nan")}, "loss nan (1 "),
    ],
)
def test_one_line_in_the_units_people_read(capsys, count, found, line):
    say_measures("test", count, found)
    out = capsys.readouterr().out
    assert out.startswith(f"test {line}")
    assert out.endswith(" samples)\n")
