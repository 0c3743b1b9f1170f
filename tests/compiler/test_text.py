"""Text that the builder decides beforehand, and loops whose index LLVM does not see."""

import ctypes

import pytest

from ganglion.compiler import llvm
from ganglion.compiler.target import host
from ganglion.compiler.text import LONG, Module, Reg


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


@pytest.mark.parametrize("lines", [1, LONG + 1])
def test_long_loops_count_as_short_ones_do(code, lines):
    out, low, high = code.parameters

    def body(i):
        value = i
        for k in range(lines):
            value = code.op("xor", value, Reg(str(1 << k % 8), "i64"))
        code.store(value, code.at_index(out, i, "i64"))

    code.loop(low, high, 2, (), body)
    code.ret()
    text = code.module.text()
    assert ("asm" in text) == (lines > LONG)
    flips = 0
    for k in range(lines):
        flips ^= 1 << k % 8
    library = llvm.load([llvm.compile_text(text, host())])
    found = (ctypes.c_int64 * 9)()
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    call(library.address("f"))(ctypes.addressof(found), 1, 8)
    assert list(found) == [0, 1 ^ flips, 0, 3 ^ flips, 0, 5 ^ flips, 0, 7 ^ flips, 0]
