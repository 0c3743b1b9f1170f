"""LLVM: from text to object code, and object code into this process. The one door to llvmlite.

    objects = compile_all([text], host())
    library = load(objects)
    library.address("step")     # valid while the library lives

We tile and vectorise ourselves, so a few clean-up passes are all that is wanted of LLVM before it
allocates registers: its own vectoriser, unroller and inliner never run.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Final, NamedTuple

from ganglion.compiler.target import Target, host, runnable
from ganglion.config import flags, optional
from ganglion.errors import GraphError

llvmlite = optional("llvmlite")
llvm = optional("llvmlite.binding")
ffi = optional("llvmlite.binding.ffi")

PASSES: Final = ("simplify_cfg", "instruction_combine", "dead_code_elimination")
CODEGEN_LEVEL: Final = 2
SWITCH: Final = "-disable-lsr"  # loop strength reduction

llvm.initialize_native_target()
llvm.initialize_native_asmprinter()


def version() -> str:
    """What besides text and target decides the object code."""
    number = ".".join(map(str, llvm.llvm_version_info))
    passes = " ".join(PASSES)
    return f"LLVM {number} llvmlite {llvmlite.__version__} O{CODEGEN_LEVEL} {passes} {SWITCH}"


# A child forked while another thread is inside LLVM would find it locked for ever.
_forking = threading.RLock()
os.register_at_fork(
    before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release
)


# --- compiling ----------------------------------------------------------------------------------


def compile_text(text: str, target: Target) -> bytes:
    """The object code of one module.

    The module needs no ``target triple`` or ``datalayout`` of its own.

    Errors: `GraphError` with LLVM's words when the text is not a correct module.
    """
    return compile_all([text], target)[0]


def compile_all(texts: Iterable[str], target: Target) -> list[bytes]:
    """The objects of several modules, compiled abreast, and while the next ones are written."""
    with _forking, _addresses_as_written(), ThreadPoolExecutor(flags.num_threads) as threads:
        return list(threads.map(partial(_compile, target=target), texts))


@contextmanager
def _addresses_as_written() -> Iterator[None]:
    """Meanwhile LLVM does not look for other ways to step through the addresses in loops.

    That would take a quarter of its time and gains our loops nothing. The switch is one of the
    whole process, where others may use LLVM too.
    """
    try:
        llvm.set_option("", SWITCH)
        yield
    finally:
        llvm.set_option("", f"{SWITCH}=false")


def _compile(text: str, target: Target) -> bytes:
    module, machine = _prepare(text, target)
    return _emit_object(machine, module)


def emit_assembly(text: str, target: Target) -> str:
    """The assembly of one module, for any target of the table; for reading and for tests."""
    with _forking, _addresses_as_written():
        module, machine = _prepare(text, target)
        return str(machine.emit_assembly(module))


def _prepare(text: str, target: Target) -> tuple[Any, Any]:
    """A verified and cleaned-up module, in a context of its own, and the machine to emit it."""
    machine = _machine(target)
    layout = f'target triple = "{target.triple}" target datalayout = "{machine.target_data}" '
    try:
        module = llvm.parse_assembly(layout + text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise GraphError(f"LLVM refuses a module that the compiler wrote: {error}") from error
    passes = llvm.create_new_module_pass_manager()
    for name in PASSES:
        getattr(passes, f"add_{name}_pass")()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options())
    _run_passes(passes, module, builder)
    return module, machine


def _machine(target: Target) -> Any:
    if target.architecture != runnable()[0].architecture:
        _know_all_targets()
    return llvm.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu, opt=CODEGEN_LEVEL, reloc="pic", codemodel="default"
    )


@cache
def _know_all_targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _without_lock(name: str) -> Any:
    """A C function of llvmlite, outside the lock that llvmlite holds during every call.

    LLVM lets threads work at the same time when each has its own context, as ours do; the lock
    guards the context that llvmlite's users share otherwise.
    """
    locked = getattr(ffi.lib, name)
    function = getattr(ctypes.CDLL(ffi.lib._name), name)
    function.argtypes, function.restype = locked.argtypes, locked.restype
    return function


_run_passes = _without_lock("LLVMPY_RunNewModulePassManager")
_emit_to_memory = _without_lock("LLVMPY_TargetMachineEmitToMemory")


def _emit_object(machine: Any, module: Any) -> bytes:
    """What ``machine.emit_object(module)`` does, without the lock."""
    with ffi.OutputString() as error:
        buffer = _emit_to_memory(machine, module, 1, error)
        if not buffer:
            raise GraphError(f"LLVM makes no code of this module: {error}")
    start, size = ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer)
    try:
        return ctypes.string_at(start, size)
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)


# --- loading ------------------------------------------------------------------------------------


class Library:
    """Object code in this process.

    Addresses are valid while the library lives: whoever keeps one keeps the library. When the
    interpreter exits the code stays where it is, since native threads may still run it.
    """

    def __init__(self, objects: Sequence[bytes]) -> None:
        defined = _defined(objects)
        builder = llvm.JITLibraryBuilder()
        for image in objects:
            builder.add_object_img(image)
        for name in defined:
            builder.export_symbol(name)
        try:
            self._linked = builder.link(_engine(), f"library{next(_numbers)}")
        except RuntimeError as error:
            raise GraphError(f"object code that cannot be loaded: {error}") from error
        self._addresses = {name: int(self._linked[name]) for name in defined}

    @property
    def names(self) -> frozenset[str]:
        """The functions it holds."""
        return frozenset(self._addresses)

    def address(self, name: str) -> int:
        """Where the function of this name starts."""
        return self._addresses[name]

    def close(self) -> None:
        """Free the code; its addresses must not be used any more."""
        self._addresses.clear()
        self._linked.close()


def load(objects: Sequence[bytes]) -> Library:
    """Link objects with one another and load them.

    Errors: `GraphError` when they call a function that none of them defines.
    """
    with _forking:
        return Library(objects)


_numbers = itertools.count()


@cache
def _engine() -> Any:
    # LLVM's older linker maps sections one by one, wherever there is room, and aborts the process
    # when they lie too far apart, as happens beside other libraries; JITLink maps them together.
    return llvm.create_lljit_compiler(_machine(host()), use_jit_link=True, suppress_errors=True)


class _Section(NamedTuple):
    """A section's header in an ELF file of 64 bits."""

    name: int
    type: int
    flags: int
    address: int
    start: int
    size: int
    link: int
    info: int
    align: int
    entry: int


_SYMBOL_TABLE: Final = 2  # a section's type


def symbols(image: bytes) -> Iterator[tuple[str, bool]]:
    """The global names in an ELF object, and whether it defines them or calls for them."""
    start, size, count = struct.unpack_from("<40xQ10xHH", image)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, start + i * size) for i in range(count)]
    sections = [_Section(*header) for header in headers]
    for table in sections:
        if table.type != _SYMBOL_TABLE:
            continue
        names = sections[table.link].start
        entries = image[table.start : table.start + table.size]
        for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", entries):
            if info >> 4:  # not a local one
                end = image.index(b"\0", names + name)
                yield image[names + name : end].decode(), section != 0


def _defined(objects: Sequence[bytes]) -> list[str]:
    """The names that objects define, provided they need no others.

    The loader would find ``expf`` and its like in the process: a silent loss of speed, and of
    results that do not depend on the machine.
    """
    try:
        known = [symbol for image in objects for symbol in symbols(image)]
    except (struct.error, ValueError, IndexError) as error:
        raise GraphError(f"object code that cannot be read: {error}") from error
    defined = {name for name, here in known if here}
    missing = sorted({name for name, _ in known} - defined)
    if missing:
        raise GraphError(f"object code calls what it does not define: {', '.join(missing)}")
    return sorted(defined)
