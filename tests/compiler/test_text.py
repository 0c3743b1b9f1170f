"""Text that the builder decides beforehand, and loops whose index LLVM does not see."""

import pytest

from ganglion.compiler.text import Module, Reg


@pytest.fixture
def code():
    return Module().function("f", [("ptr", "out"), ("i64", "low"), ("i64", "high")])


def test_multiples_are_divided_beforehand(code):
    x = code.add(code.mul(code.parameters[1], 6), 5)
    quotient, rest = code.divmod(x, 2)
    assert rest == 1
    assert quotient == code.add(code.mul(code.parameters[1], 3), 2)
    assert not any("div" in line or "rem" in line for line in code.lines)


@pytest.mark.parametrize(("factor", "summand"), [(3, 0), (2, -1), (-2, 8)])
def test_what_may_be_negative_or_is_no_multiple_is_divided_at_run_time(code, factor, summand):
    x = code.add(code.mul(code.parameters[1], factor), summand)
    assert isinstance(code.divmod(x, 2)[1], Reg)


@pytest.mark.parametrize(("how", "expected"), [("eq", "false"), ("slt", "true"), ("sge", "false")])
def test_numbers_are_compared_beforehand(code, how, expected):
    assert code.compare(how, -3, 2).name == expected


def test_and_with_a_known_condition_is_the_other_one(code):
    unknown = code.compare("slt", code.parameters[1], 3)
    true, false = code.compare("eq", 1, 1), code.compare("eq", 1, 2)
    assert code.op("and", true, unknown) == code.op("and", unknown, true) == unknown
    assert code.op("and", false, unknown) == code.op("and", unknown, false) == false
