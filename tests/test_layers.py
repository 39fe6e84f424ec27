"""The shape of the code: low never imports high, and what decides neither does I/O nor depends on chance.

Read from the syntax of every module, so that it holds for imports inside functions and under `if TYPE_CHECKING` too.
(The contracts in setup.cfg say the first half to import-linter as well, which also sees chains of imports.)
"""

import ast
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]

LAYERS = (
    ("model",),
    ("core", "wire", "config"),
    ("drivers",),
    ("runtime", "sim"),
    ("service", "commands"),
    ("cli", "lab"),
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
STRANGERS = {("runtime", "sim"), ("sim", "runtime")}
"""Of one layer, and still not to know each other: two hosts of the same cores."""

PURE = ("model", "core", "wire")
IMPURE_MODULES = frozenset(
    (
        "asyncio",
        "datetime",
        "io",
        "logging",
        "multiprocessing",
        "os",
        "pathlib",
        "secrets",
        "select",
        "selectors",
        "signal",
    )
    + ("socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "twisted", "uuid")
)
IMPURE_CALLS = frozenset(("print", "open", "input", "exec", "eval", "breakpoint", "hash", "id"))
"""hash() and id() differ from process to process."""

SETS = frozenset(("set", "frozenset"))
ORDERLESS = frozenset(("sorted", "set", "frozenset", "any", "all", "sum", "len", "max", "min"))
"""What may take a set's elements in any order."""
ORDERED = frozenset(("tuple", "list", "iter", "enumerate", "dict", "map", "zip", "reversed"))

MODULES = sorted((ROOT / "truecl").rglob("*.py"))


def package_of(path: pathlib.Path) -> str:
    """'' for the modules directly in truecl/."""
    parts = path.relative_to(ROOT / "truecl").parts
    return parts[0] if len(parts) > 1 else ""


def imports(tree: ast.AST) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Line, module, and the names taken from it ('*' for the module itself)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ("*",)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)


def layer_faults(package: str, tree: ast.AST) -> Iterator[str]:
    for line, module, names in imports(tree):
        if module.startswith("."):
            yield f"{line}: relative import {module}"
        parts = module.split(".")
        if parts[0] != "truecl":
            continue
        for other in parts[1:2] or [name for name in names if name in RANK]:
            if other in RANK and (RANK[other] > RANK[package] or (package, other) in STRANGERS):
                yield f"{line}: {package} imports {other}"


def purity_faults(tree: ast.AST) -> Iterator[str]:
    for line, module, names in imports(tree):
        top = module.split(".")[0]
        if top in IMPURE_MODULES:
            yield f"{line}: imports {module}"
        if top == "random" and names != ("Random",):
            yield f"{line}: takes {', '.join(names)} from random; only the type Random"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in IMPURE_CALLS:
                yield f"{node.lineno}: calls {node.func.id}()"
            if node.func.id == "Random":
                yield f"{node.lineno}: makes its own Random; a seeded one is given to it"


class SetIteration(ast.NodeVisitor):
    """Finds what takes a set's elements in their order, as far as syntax and annotations tell what is a set."""

    def __init__(self, tree: ast.AST) -> None:
        self.faults: list[str] = []
        self.names = {"": self._names(tree)}
        self.scope = ""
        self.attributes = set(self._attributes(tree))
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.scope = self.scope, f"{self.scope}/{node.name}@{node.lineno}"
        self.names[self.scope] = self.names[outer] | self._names(node)
        self.generic_visit(node)
        self.scope = outer

    def visit_For(self, node: ast.For) -> None:
        self._note(node.iter, "loops over")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        joins = isinstance(node.func, ast.Attribute) and node.func.attr in ("join", "extend")
        if name in ORDERED or joins:
            for argument in node.args:
                self._note(argument, f"{name or 'joins'}")
        for argument in node.args:
            if name in ORDERLESS and isinstance(argument, ast.GeneratorExp | ast.ListComp):
                for inner in ast.iter_child_nodes(argument):
                    self.generic_visit(inner)
            else:
                self.visit(argument)
        for keyword in node.keywords:
            self.visit(keyword.value)
        self.visit(node.func)

    def visit_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp | ast.DictComp) -> None:
        for generator in node.generators:
            self._note(generator.iter, "loops over")
        self.generic_visit(node)

    visit_ListComp = visit_GeneratorExp
    visit_DictComp = visit_GeneratorExp

    def visit_Starred(self, node: ast.Starred) -> None:
        self._note(node.value, "spreads")
        self.generic_visit(node)

    def _note(self, node: ast.expr, how: str) -> None:
        if self._is_set(node):
            self.faults.append(f"{node.lineno}: {how} a set: {ast.unparse(node)}")

    def _is_set(self, node: ast.expr | None) -> bool:
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Call(func=ast.Name(id=name)):
                return name in SETS
            case ast.Call(func=ast.Attribute(value=value, attr="union" | "intersection" | "difference" | "copy")):
                return self._is_set(value)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return self._is_set(left) or self._is_set(right)
            case ast.IfExp(body=body, orelse=orelse):
                return self._is_set(body) or self._is_set(orelse)
            case ast.Name(id=name):
                return name in self.names[self.scope]
            case ast.Attribute(attr=name):
                return name in self.attributes
        return False

    def _attributes(self, tree: ast.AST) -> Iterator[str]:
        """Fields and attributes that some class here annotates as sets."""
        for owner in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for node in ast.walk(owner):
                match node:
                    case ast.AnnAssign(target=ast.Attribute(attr=name) | ast.Name(id=name), annotation=annotation):
                        if self._annotates(annotation):
                            yield name

    def _names(self, tree: ast.AST) -> set[str]:
        """Arguments and variables that are annotated as sets, or given one."""
        found: set[str] = set()
        inside = [node for child in ast.iter_child_nodes(tree) for node in self._of_scope(child)]
        for node in inside:
            match node:
                case ast.arg(arg=name, annotation=annotation) if self._annotates(annotation):
                    found.add(name)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if self._annotates(annotation):
                    found.add(name)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Set() | ast.SetComp()):
                    found.add(name)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="set" | "frozenset"))):
                    found.add(name)
        return found

    def _of_scope(self, node: ast.AST) -> Iterator[ast.AST]:
        """Itself and what is inside, short of inner functions and classes."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            return
        yield node
        for child in ast.iter_child_nodes(node):
            yield from self._of_scope(child)

    @staticmethod
    def _annotates(annotation: ast.expr | None) -> bool:
        if isinstance(annotation, ast.Subscript):
            annotation = annotation.value
        return isinstance(annotation, ast.Name) and annotation.id in (*SETS, "AbstractSet", "MutableSet")


def faults_of(source: str, package: str) -> list[str]:
    tree = ast.parse(source)
    faults = list(layer_faults(package, tree)) if package else []
    if package in PURE:
        faults += [*purity_faults(tree), *SetIteration(tree).faults]
    return faults


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: pathlib.Path) -> None:
    package = package_of(path)
    assert package == "" or package in RANK, f"{package} belongs to no layer"
    assert faults_of(path.read_text(), package) == []


def test_every_layer_is_there() -> None:
    assert {package_of(path) for path in MODULES} == {"", *RANK}


# ---- what finds nothing because it cannot see would be green too -----------------------------------------------------


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("core", "import truecl.runtime.host"),
        ("core", "from truecl import runtime"),
        ("core", "from truecl.drivers.contract import Runner"),
        ("model", "from truecl.core import contract"),
        ("drivers", "def f():\n    from truecl.runtime import runner"),
        ("runtime", "from truecl.sim import machine"),
        ("sim", "from truecl.runtime import host"),
        ("service", "from truecl.cli import form"),
        ("core", "from . import contract"),
        ("core", "import time"),
        ("wire", "from os import urandom"),
        ("wire", "import os.path"),
        ("core", "import random"),
        ("core", "from random import choice"),
        ("core", "from random import Random\nr = Random(1)"),
        ("core", "print(1)"),
        ("core", "for a in {1, 2}:\n    pass"),
        ("core", "for a in set(b):\n    pass"),
        ("core", "x = [a for a in frozenset(b)]"),
        ("core", "x = {a: 1 for a in {b, c}}"),
        ("core", "x = tuple({a, b})"),
        ("core", "x = tuple(a for a in {b, c})"),
        ("core", "x = ', '.join({a, b})"),
        ("core", "x = [*{a, b}]"),
        ("core", "x = next(iter({a, b} | c))"),
        ("core", "def f(a: frozenset[int]):\n    for b in a:\n        pass"),
        ("core", "def f(a):\n    b = set(a)\n    return [c for c in b - d]"),
        ("core", "class C:\n    a: frozenset[int]\n    def f(self):\n        return tuple(self.a)"),
        ("core", "class C:\n def __init__(self):\n  self.a: set[int] = set()\n def f(self):\n  return list(self.a)"),
    ],
)
def test_faults_are_seen(package: str, source: str) -> None:
    assert len(faults_of(source, package)) == 1


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("core", "from truecl.model import ids\nfrom truecl.wire import messages\nfrom random import Random"),
        ("runtime", "import os, time, random\nfrom truecl.core import contract"),
        ("core", "x = sorted({a, b})\ny = len(set(c))\nz = a in {b, c}\nw = {d for d in {e, f}}"),
        ("core", "x = sorted(a for a in {b, c})\ny = any(a > 1 for a in set(b))"),
        ("core", "def f(a: set[int]):\n    for b in sorted(a):\n        pass\n    return frozenset(a) | {1}"),
        ("core", "def f():\n    a = {1}\n    return len(a)\ndef g(a):\n    return list(a)"),
        ("cli", "print(1)\nimport truecl.service.warm"),
    ],
)
def test_what_is_allowed_is_not_a_fault(package: str, source: str) -> None:
    assert faults_of(source, package) == []
