"""The modules of the package as `ast` sees them: their definitions, and which of them imports which.

Standard library alone; nothing of the package is run. Paths are relative to the repository, with forward slashes.
"""

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "mmaudio"
SCRIPTS = ("train.py", "evaluate.py", "training/*.py")  # entry points beside the package; they count as users of it
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Use:
    """One module naming another: `names` are what it takes of it (none: the module itself)."""

    target: str  # path
    names: tuple[str, ...]
    runs: bool  # False under `if TYPE_CHECKING`: needed to read, not to run
    is_lazy: bool  # inside a function


@dataclass(frozen=True)
class Module:
    """One file."""

    path: str
    source: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        return self.source.count("\n")

    @property
    def dotted(self) -> str:
        return ".".join(Path(self.path).with_suffix("").parts).removesuffix(".__init__")

    @property
    def stem(self) -> str:
        return Path(self.path).stem

    @property
    def is_init(self) -> bool:
        return self.stem == "__init__"

    @property
    def is_ours(self) -> bool:
        """Whether it is of the package, and no script beside it."""
        return self.path.startswith(f"{PACKAGE}/")

    @property
    def package(self) -> str:
        """The top-level package it lies in; "" for the package's own files and for scripts."""
        parts = self.path.split("/")
        return parts[1] if self.is_ours and len(parts) > 2 else ""

    @cached_property
    def definitions(self) -> dict[str, ast.AST]:
        """Dotted names of functions, classes and methods."""
        return dict(_definitions(self.tree, ""))

    @cached_property
    def functions(self) -> dict[str, ast.AST]:
        return {name: node for name, node in self.definitions.items() if not isinstance(node, ast.ClassDef)}


def _definitions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, (ast.If, ast.Try, ast.With)):
            yield from _definitions(child, prefix)


class Modules:
    """All modules of a repository, the scripts beside the package included. `uses` are the imports of each, in order."""

    def __init__(self, root: Path) -> None:
        files = [*(root / PACKAGE).rglob("*.py"), *(path for pattern in SCRIPTS for path in root.glob(pattern))]
        sources = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(files)}
        self.root = root
        self.by_path = {path: Module(path, source, ast.parse(source)) for path, source in sources.items()}
        self._by_dotted = {module.dotted: module for module in self.by_path.values()}
        self._imports = {path: list(_imports(module.tree, True, False)) for path, module in self.by_path.items()}
        self.uses = {path: list(self._uses_of(path)) for path in self.by_path}

    @cached_property
    def ours(self) -> dict[str, Module]:
        """Without the scripts."""
        return {path: module for path, module in self.by_path.items() if module.is_ours}

    def _uses_of(self, path: str) -> Iterator[Use]:
        """A name that is only handed on is taken of the module that defines it."""
        for node, runs, is_lazy in self._imports[path]:
            if isinstance(node, ast.Import):
                yield from (Use(self._by_dotted[name.name].path, (), runs, is_lazy) for name in node.names if name.name in self._by_dotted)
            elif node.module and node.level == 0:
                for name in node.names:
                    target = self._home(node.module, name.name)
                    if target is not None:
                        yield Use(*target, runs, is_lazy)

    def _home(self, dotted: str, name: str) -> tuple[str, tuple[str, ...]] | None:
        """The module that `from dotted import name` takes from, through those that only hand the name on."""
        if f"{dotted}.{name}" in self._by_dotted:
            return self._by_dotted[f"{dotted}.{name}"].path, ()
        module = self._by_dotted.get(dotted)
        if module is None:
            return None
        if name not in module.definitions:
            for node, _, _ in self._imports[module.path]:
                for each in node.names if isinstance(node, ast.ImportFrom) and node.module else ():
                    if (each.asname or each.name) == name and (found := self._home(str(node.module), each.name)) is not None:  # type: ignore[union-attr]
                        return found
        return module.path, (name,)

    def imports(self, *, typing_too: bool = False, lazy_too: bool = True) -> Graph:
        """Path → paths it imports."""
        return {
            path: {use.target for use in uses if (use.runs or typing_too) and (not use.is_lazy or lazy_too)} - {path}
            for path, uses in self.uses.items()
        }

    def package_imports(self) -> Graph:
        """Package → packages it imports."""
        found: Graph = {module.package: set() for module in self.ours.values() if module.package}
        for path, targets in self.imports().items():
            if self.by_path[path].package:
                found[self.by_path[path].package] |= {self.by_path[target].package for target in targets}
        return {package: targets - {package, ""} for package, targets in found.items()}


def _imports(node: ast.AST, runs: bool, is_lazy: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, runs, is_lazy
        elif isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            for_reading = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from _imports(child, runs and not for_reading, is_lazy or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Groups of two or more nodes that reach each other (Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def longest_chain(graph: Mapping[str, Collection[str]]) -> list[str]:
    """The longest chain of imports; of a circle each node counts once at most."""
    known: dict[str, list[str]] = {}
    on_way: set[str] = set()

    def chain(node: str) -> list[str]:
        if node not in known:
            on_way.add(node)
            tails = [chain(target) for target in sorted(graph.get(node, ())) if target not in on_way]
            on_way.discard(node)
            known[node] = [node, *max(tails, key=len, default=[])]
        return known[node]

    return max((chain(node) for node in sorted(graph)), key=len, default=[])


def reached(graph: Mapping[str, Collection[str]], start: str) -> set[str]:
    """All that `start` imports, straight or not."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = set(graph.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
