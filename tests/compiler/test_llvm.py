"""Text to object code to addresses, for the host and for other targets."""

import ctypes
import subprocess
import sys

import pytest

from ganglion.compiler import llvm
from ganglion.compiler.target import TARGETS, host
from ganglion.errors import GraphError

DOUBLE = "define i64 @double(i64 %x) {\n  %y = shl i64 %x, 1\n  ret i64 %y\n}\n"

# A register tile of a matrix product in steps: c += a[i] * b, for 2 rows of 16 floats.
TILE = """
declare <16 x float> @llvm.fma.v16f32(<16 x float>, <16 x float>, <16 x float>)
declare <16 x float> @llvm.sqrt.v16f32(<16 x float>)
declare <16 x float> @llvm.fabs.v16f32(<16 x float>)
declare <16 x float> @llvm.rint.v16f32(<16 x float>)
declare <16 x float> @llvm.copysign.v16f32(<16 x float>, <16 x float>)

define void @tile(ptr noalias %a, ptr noalias %b, ptr noalias %c) ATTRIBUTES {
  br label %loop
loop:
  %k = phi i64 [ 0, %0 ], [ %next, %loop ]
  %sum = phi <16 x float> [ zeroinitializer, %0 ], [ %more, %loop ]
  %a.k = getelementptr float, ptr %a, i64 %k
  %scalar = load float, ptr %a.k, align 4
  %one = insertelement <16 x float> poison, float %scalar, i64 0
  %row = shufflevector <16 x float> %one, <16 x float> poison, <16 x i32> zeroinitializer
  %place = shl i64 %k, 4
  %b.k = getelementptr float, ptr %b, i64 %place
  %column = load <16 x float>, ptr %b.k, align 4
  MULTIPLY
  %next = add i64 %k, 1
  %on = icmp slt i64 %next, 32
  br i1 %on, label %loop, label %out
out:
  FINISH
  ret void
}
"""
FUSED = (
    "%more = call <16 x float> @llvm.fma.v16f32(<16 x float> %row, <16 x float> %column,"
    " <16 x float> %sum)"
)
APART = "%p = fmul <16 x float> %row, %column\n  %more = fadd <16 x float> %p, %sum"
FINISH = """
  %r = call <16 x float> @llvm.sqrt.v16f32(<16 x float> %more)
  %f = call <16 x float> @llvm.fabs.v16f32(<16 x float> %r)
  %i = call <16 x float> @llvm.copysign.v16f32(<16 x float> %f, <16 x float> %more)
  store <16 x float> %i, ptr %c, align 4"""


def tile(target, multiply=None):
    multiply = multiply or (FUSED if target.fma else APART)
    text = TILE.replace("MULTIPLY", multiply).replace("FINISH", FINISH)
    return text.replace("ATTRIBUTES", target.attributes)


def undefined(image):
    return [name for name, here in llvm.symbols(image) if not here]


def test_text_becomes_a_function():
    library = llvm.load([llvm.compile_text(DOUBLE, host())])
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address("double"))(21) == 42


def test_equal_text_gives_equal_bytes_alone_or_abreast(monkeypatch):
    monkeypatch.setenv("GANGLION_NUM_THREADS", "3")
    texts = [tile(host()).replace("@tile", f"@tile{i}") for i in range(6)]
    assert llvm.compile_all(texts, host()) == [llvm.compile_text(text, host()) for text in texts]


def test_nothing_to_compile():
    assert llvm.compile_all([], host()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("define i64 @f(i64 %x) {\n  ret i64 %y\n}", "(?s)refuses.*:2:11: .*undefined value"),
        ("define i32 @f() {\n  ret void\n}", "function result type"),
        (
            "define i64 @f(i64 %x) {\n  %y = add i64 %z, 1\n  %z = add i64 %x, 1\n  ret i64 %y\n}",
            "does not dominate",
        ),
        ("define void @f(ptr %p) {\n  store i32 0, ptr %p, align 3\n  ret void }", "power of two"),
    ],
)
def test_wrong_text_is_refused_with_the_line(text, message):
    with pytest.raises(GraphError, match=message):
        llvm.compile_text(text, host())


def test_wrong_text_is_refused_in_a_batch():
    with pytest.raises(GraphError, match="refuses"):
        llvm.compile_all([DOUBLE, "nonsense"], host())


def test_objects_may_call_one_another():
    caller = "declare i64 @double(i64)\n" + DOUBLE.replace("@double", "@twice").replace(
        "%y = shl i64 %x, 1", "%h = call i64 @double(i64 %x)\n  %y = call i64 @double(i64 %h)"
    )
    objects = llvm.compile_all([caller, DOUBLE], host())
    library = llvm.load(objects)
    assert ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address("twice"))(10) == 40
    with pytest.raises(GraphError, match="does not define: double"):
        llvm.load(objects[:1])


def test_a_call_into_the_c_library_is_refused():
    text = (
        "declare float @llvm.exp.f32(float)\ndefine float @f(float %x) {\n"
        "  %y = call float @llvm.exp.f32(float %x)\n  ret float %y\n}\n"
    )
    with pytest.raises(GraphError, match="does not define: expf"):
        llvm.load([llvm.compile_text(text, host())])


def test_damaged_object_code_is_refused():
    image = llvm.compile_text(DOUBLE, host())
    with pytest.raises(GraphError, match="cannot be read"):
        llvm.load([image[: len(image) // 2]])
    with pytest.raises(GraphError, match="cannot be"):
        llvm.load([b"x" * 100])


def test_libraries_with_equal_names_live_side_by_side():
    treble = DOUBLE.replace("shl i64 %x, 1", "mul i64 %x, 3")
    images = llvm.compile_all([DOUBLE, treble], host())
    libraries = [llvm.load([image]) for image in images]
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    assert [call(library.address("double"))(5) for library in libraries] == [10, 15]
    libraries[0].close()
    assert call(libraries[1].address("double"))(7) == 21


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_tile_needs_no_library_on_any_target(target):
    assert undefined(llvm.compile_text(tile(target), target)) == []


def test_fma_without_the_instruction_is_a_library_call():
    """What the check above must catch."""
    assert undefined(llvm.compile_text(tile(TARGETS["sse2"], FUSED), TARGETS["sse2"])) == ["fmaf"]


@pytest.mark.parametrize(
    ("name", "instruction", "register"),
    [
        ("avx512", "vfmadd", "zmm"),
        ("avx2", "vfmadd", "ymm"),
        ("sse2", "mulps", "xmm"),
        ("neon", "fmla", ".4s"),
    ],
)
def test_assembly_uses_the_registers_of_its_target(name, instruction, register):
    assembly = llvm.emit_assembly(tile(TARGETS[name]), TARGETS[name])
    assert any(instruction in line and register in line for line in assembly.splitlines())


def test_products_and_sums_are_not_fused_behind_our_back():
    assert "fma" not in llvm.emit_assembly(tile(TARGETS["avx2"], APART), TARGETS["avx2"])


def test_the_interpreter_exits_cleanly_with_code_loaded():
    code = (
        "import ctypes\n"
        "from ganglion.compiler import llvm\n"
        "from ganglion.compiler.target import host\n"
        f"library = llvm.load([llvm.compile_text({DOUBLE!r}, host())])\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.address('double'))\n"
        "import atexit; atexit.register(lambda: print(call(4)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "8\n"
    assert done.stderr == ""


def test_a_child_forked_while_others_compile_can_compile(monkeypatch):
    code = (
        "import os, threading\n"
        "from ganglion.compiler import llvm\n"
        "from ganglion.compiler.target import host\n"
        f"text = {DOUBLE!r}\n"
        "going = True\n"
        "def compile():\n"
        "    while going: llvm.compile_text(text, host())\n"
        "threads = [threading.Thread(target=compile) for _ in range(2)]\n"
        "for thread in threads: thread.start()\n"
        "for _ in range(10):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        llvm.load([llvm.compile_text(text, host())])\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "going = False\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_without_llvmlite_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import ganglion\n"
        "try:\n"
        "    import ganglion.compiler.pool\n"
        "except ganglion.errors.MissingExtraError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'llvmlite', which is not installed; run: pip install ganglion" in done.stdout
