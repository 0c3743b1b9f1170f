"""The house rules that a reader relies on, checked on the source itself.

A file imports only what stands before it in FLOORS, or files of its own package that do not
import it back. Every rule is a generator over one parsed file; the last tests prove that each
rule catches what it forbids.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = (
    ("errors", "config", "dtypes", "shapes", "tree"),
    ("blas", "rng", "graph", "storage", "dispatch", "heavy", "gradmode"),
    ("ops",),
    ("history", "convert", "printing", "tensor", "autograd", "eager"),
    ("creation", "random", "linalg", "functional", "cuda", "backends"),
    ("compiler",),
    ("nn", "optim", "serialize"),
    ("data", "metrics", "utils"),
    ("train",),
    ("diagnose", "models", "tune", "export", "interop"),
    ("web", "cli", "__main__"),
)
PLACE = {name: place for place, name in enumerate(chain.from_iterable(FLOORS))}

# Third-party packages imported by name, and where; all others go through config.optional.
THIRD_PARTY = {
    "numpy": ("",),
    "ml_dtypes": ("dtypes.py",),
    "llvmlite": ("compiler/llvm.py",),
    "rich": ("cli/", "train/"),
    "typer": ("cli/",),
}
FORBIDDEN = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
LONG_FILES: dict[str, str] = {}  # path: why it stays in one piece
LONG_FUNCTIONS: dict[str, str] = {}  # path:name: why it is a table


@dataclass(frozen=True)
class Import:
    """One imported module: `ganglion.nn.linear`, where, and the function it stands in."""

    module: str
    line: int
    function: str | None


@dataclass
class Source(ast.NodeVisitor):
    """One parsed file; imports for annotations (`if TYPE_CHECKING:`) are left out."""

    path: str  # relative to the package, or to the repository for a script
    text: str
    imports: list[Import] = field(default_factory=list)
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = field(default_factory=list)
    calls: list[ast.Call] = field(default_factory=list)
    _inside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visit(ast.parse(self.text))

    @property
    def module(self) -> str:
        parts = Path("ganglion", self.path).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def top(self) -> str:
        """The name in FLOORS that this file belongs to."""
        return Path(self.path).parts[0].removesuffix(".py")

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) not in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            self.generic_visit(node)
        else:
            for child in node.orelse:
                self.visit(child)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node)
        self._inside.append(node.name)
        self.generic_visit(node)
        self._inside.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.append(node)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self._absolute(node)
        for alias in node.names:
            name = f"{base}.{alias.name}"
            self._add(name if _exists(name) else base, node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".") if self.is_package else self.module.split(".")[:-1]
        parts = package[: len(package) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)

    def _add(self, module: str, line: int) -> None:
        self.imports.append(Import(module, line, self._inside[-1] if self._inside else None))


def _exists(module: str) -> bool:
    if not module.startswith("ganglion."):
        return False
    path = ROOT.joinpath(*module.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def _first(module: str) -> str:
    return module.partition(".")[0]


def _is_ours(module: str) -> bool:
    return _first(module) == "ganglion"


def _top_of(module: str) -> str:
    return _first(module.partition(".")[2])


@cache
def package() -> tuple[Source, ...]:
    """Every file of the package, parsed."""
    base = ROOT / "ganglion"
    return tuple(
        Source(path.relative_to(base).as_posix(), path.read_text(encoding="utf-8"))
        for path in sorted(base.rglob("*.py"))
    )


@cache
def scripts() -> tuple[Source, ...]:
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in ("benchmarks", "docs", "examples")
        for path in sorted((ROOT / folder).rglob("*.py"))
    )


# --- the rules: each yields one sentence for every breach ---------------------------------------


def stands_on_a_floor(source: Source) -> Iterator[str]:
    if source.path != "__init__.py" and source.top not in PLACE:
        yield f"{source.path} stands on no floor; add {source.top!r} to FLOORS and DESIGN"


def imports_only_downwards(source: Source) -> Iterator[str]:
    if source.path == "__init__.py" or source.top not in PLACE:
        return
    for found in source.imports:
        target = _top_of(found.module)
        if not _is_ours(found.module) or target == source.top:
            continue
        if target not in PLACE or PLACE[target] > PLACE[source.top]:
            where = f"{source.path}:{found.line}"
            yield f"{where} imports {found.module}, which stands above {source.top}"


def imports_ours_at_the_top(source: Source) -> Iterator[str]:
    for found in source.imports:
        if found.function is None or not _is_ours(found.module):
            continue
        if not source.is_package:  # the door of a package may be lazy
            where = f"{source.path}:{found.line}"
            yield f"{where} imports {found.module} inside {found.function}(); move it to the top"


def imports_others_through_optional(source: Source) -> Iterator[str]:
    for found in source.imports:
        name = _first(found.module)
        if _is_ours(found.module) or name in sys.stdlib_module_names:
            continue
        if not source.path.startswith(THIRD_PARTY.get(name, ())):
            where = f"{source.path}:{found.line}"
            yield f"{where} imports {name}; use ganglion.config.optional({name!r}, extra)"


def never_runs_files(source: Source) -> Iterator[str]:
    for found in source.imports:
        if _first(found.module) in FORBIDDEN:
            yield f"{source.path}:{found.line} imports {found.module}: files are never unpickled"
    for call in source.calls:
        name = ast.unparse(call.func)
        if name in {"eval", "exec", "builtins.eval", "builtins.exec"}:
            yield f"{source.path}:{call.lineno} calls {name}"
        for keyword in call.keywords:
            if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                yield f"{source.path}:{call.lineno} allows pickle"


def is_short(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > MAX_FILE_LINES and source.path not in LONG_FILES:
        yield f"{source.path} has {lines} lines, more than {MAX_FILE_LINES}; split it"


def has_short_functions(source: Source) -> Iterator[str]:
    for function in source.functions:
        lines = (function.end_lineno or 0) - function.lineno + 1
        name = f"{source.path}:{function.name}"
        if lines > MAX_FUNCTION_LINES and name not in LONG_FUNCTIONS:
            yield f"{name} has {lines} lines, more than {MAX_FUNCTION_LINES}; split it"


def imports_in_circles(sources: tuple[Source, ...]) -> list[str]:
    """The first circle of imports among these files, as a path of modules."""
    graph = {
        source.module: {found.module for found in source.imports if _is_ours(found.module)}
        for source in sources
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


Rule = Callable[[Source], Iterator[str]]
EVERYWHERE = (never_runs_files, is_short, has_short_functions)
IN_PACKAGE = (
    stands_on_a_floor,
    imports_only_downwards,
    imports_ours_at_the_top,
    imports_others_through_optional,
)


def _breaches(rule: Rule, sources: tuple[Source, ...]) -> list[str]:
    return list(chain.from_iterable(map(rule, sources)))


def _name(rule: object) -> str:
    return getattr(rule, "__name__", "")


@pytest.mark.parametrize("rule", IN_PACKAGE + EVERYWHERE, ids=_name)
def test_every_file_of_the_package(rule):
    breaches = _breaches(rule, package())
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize("rule", EVERYWHERE, ids=_name)
def test_every_script(rule):
    breaches = _breaches(rule, scripts())
    assert not breaches, "\n".join(breaches)


def test_no_file_imports_itself_through_others():
    assert imports_in_circles(package()) == []


def test_every_exception_to_a_length_is_still_needed():
    files = {source.path: source for source in package() + scripts()}
    functions = {f"{path}:{f.name}" for path, source in files.items() for f in source.functions}
    assert set(LONG_FILES) <= set(files)
    assert set(LONG_FUNCTIONS) <= functions


# --- the rules themselves are tested on what they forbid ----------------------------------------


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (stands_on_a_floor, "helpers.py", ""),
        (stands_on_a_floor, "misc/things.py", ""),
        (imports_only_downwards, "shapes.py", "import ganglion.nn"),
        (imports_only_downwards, "errors.py", "from ganglion import config"),
        (imports_only_downwards, "ops/reduce.py", "from ..tensor import Tensor"),
        (imports_only_downwards, "nn/linear.py", "import ganglion"),
        (imports_only_downwards, "config.py", "try:\n    import ganglion.cli\nfinally:\n    pass"),
        (imports_only_downwards, "config.py", "if x:\n    from ganglion import cli"),
        (imports_only_downwards, "tree.py", "if TYPE_CHECKING:\n  x\nelse:\n  import ganglion"),
        (imports_only_downwards, "tree.py", "if not TYPE_CHECKING:\n    import ganglion.nn"),
        (imports_ours_at_the_top, "nn/linear.py", "def f():\n    from ganglion import errors"),
        (imports_ours_at_the_top, "tensor.py", "def __getattr__(x):\n    import ganglion.tree"),
        (imports_others_through_optional, "nn/linear.py", "import torch"),
        (imports_others_through_optional, "compile/emit.py", "from llvmlite import binding"),
        (imports_others_through_optional, "nn/linear.py", "def f():\n    import pandas.io"),
        (never_runs_files, "serialize.py", "import pickle"),
        (never_runs_files, "serialize.py", "np.load(file, allow_pickle=flag)"),
        (never_runs_files, "serialize.py", "def f(text):\n    return eval(text)"),
        (is_short, "tensor.py", "\n" * (MAX_FILE_LINES + 1)),
        (has_short_functions, "tensor.py", "def f():\n" + "    x\n" * MAX_FUNCTION_LINES),
    ],
)
def test_a_rule_catches_what_it_forbids(rule, path, text):
    assert len(_breaches(rule, (Source(path, text),))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("__init__.py", "from ganglion import cli, errors"),
        ("config.py", "from ganglion.errors import ArgumentError"),
        ("shapes.py", "if TYPE_CHECKING:\n    from ganglion.tensor import Tensor"),
        ("nn/__init__.py", "def __getattr__(name):\n    from ganglion.nn import linear"),
        ("nn/linear.py", "import numpy as np\nfrom ganglion.nn import module"),
        ("compiler/llvm.py", "import llvmlite.binding"),
        ("serialize.py", "np.load(file, allow_pickle=False)\nmodel.eval()"),
        ("tensor.py", "def f():\n" + "    x\n" * (MAX_FUNCTION_LINES - 1)),
    ],
)
def test_no_rule_fires_on_what_is_allowed(path, text):
    for rule in IN_PACKAGE + EVERYWHERE:
        assert _breaches(rule, (Source(path, text),)) == []


def test_a_circle_is_found_and_spelled_out():
    sources = (
        Source("errors.py", "import ganglion.config"),
        Source("config.py", "import ganglion.shapes"),
        Source("shapes.py", "import ganglion.errors"),
    )
    circle = imports_in_circles(sources)
    assert set(circle) == {"ganglion.errors", "ganglion.config", "ganglion.shapes"}
