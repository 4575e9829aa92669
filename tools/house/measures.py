"""How much there is to know before one can work in the package: figures with their aims, and the lists behind them.

The aims are those of the layout as it was made; what is added later may raise the number of files and of packages. What holds for
ever are the faults: a circle of imports, and a file name that stands in two folders.
"""

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.house.modules import PACKAGE, Module, Modules, circles, longest_chain, reached

SMALL = 60  # lines; a file below is asked whether it is an idea of its own
ENTRY = "train.py"
FOREIGN_LINES = 4  # of a string constant, from which on it is looked at as another language
FOREIGN_SHARE = 0.5  # of a file's lines in such constants, from which on it holds another language


@dataclass(frozen=True)
class Measure:
    """A row of the table. `items` are what was counted, where that is a list."""

    name: str
    now: str
    aim: str
    is_met: bool
    items: tuple[str, ...] = ()


def measures(modules: Modules) -> list[Measure]:
    """All that has an aim, in the order of the table."""
    ours, root = modules.ours, modules.root
    rooms = [module for module in ours.values() if not module.is_init or module.functions]
    lines = sorted(module.lines for module in ours.values())
    low, median, high = statistics.quantiles(lines, n=4, method="inclusive") if len(lines) > 1 else lines * 3
    packages = modules.package_imports()
    inside = {path: targets for path, targets in modules.imports().items() if path in ours}
    at_start = reached(modules.imports(lazy_too=False), ENTRY) & ours.keys()
    rings = [ring_groups(modules)[kind] for kind in ("packages", "files", "files, imports for reading too")]
    chains = longest_chain(inside), longest_chain(packages)
    handed = [f"{module.path}: {name}" for module in ours.values() if not module.is_init for name in handed_on(module)]
    through = [f"{module.path}:{name}" for module in ours.values() for name, node in module.functions.items() if passes_on(node)]
    foreign = {module.path: num for module in ours.values() if (num := foreign_lines(module)) > FOREIGN_SHARE * max(1, module.lines)}
    readme = (root / "README.md").stat().st_size if (root / "README.md").is_file() else 0
    pages = sorted(path.relative_to(root).as_posix() for path in root.glob("docs/**/*.md"))
    return [
        Measure("Python files", str(len(ours)), "≤ 215", len(ours) <= 215),
        Measure(
            "lines a file: median (quartiles), largest",
            f"{median:g} ({low:g}, {high:g}), {lines[-1]}",
            "110–140, ≤ 450",
            110 <= median <= 140 and lines[-1] <= 450,
            tuple(f"{module.path}: {module.lines}" for module in ours.values() if module.lines > 300),
        ),
        _at_most(f"files under {SMALL} lines", 20, [module.path for module in rooms if module.lines < SMALL]),
        _at_most("file names that stand in several folders", 0, _listed(doubled_file_names(modules))),
        _at_most("public classes and functions of one name", 8, _listed(doubled_definitions(modules))),
        _at_most("files called as their neighbour with a word more", 8, extending_names(modules)),
        _at_most("modules used by one other module only", 45, used_by_one(modules)),
        _at_most("files in commands/", 16, [path for path, module in ours.items() if module.package == "commands"]),
        _at_most("files in base/", 8, [path for path, module in ours.items() if module.package == "base"]),
        _at_most("top-level packages", 24, sorted(packages)),
        Measure(
            "circles: of packages, of files, with imports for reading",
            ", ".join(str(len(found)) for found in rings),
            "0, 0, 0",
            not any(rings),
            tuple(" ".join(ring) for found in rings for ring in found),
        ),
        _at_most("longest chain of imports: files", 16, chains[0]),
        _at_most("longest chain of imports: packages", 7, chains[1]),
        _at_most(f"files of the package that {ENTRY} loads at its start", 124, sorted(at_start)),
        _at_most("functions that only pass their arguments on", 4, through),
        _at_most("names handed on by files that are no __init__", 0, handed),
        Measure(
            "lines of other languages inside .py",
            f"{sum(foreign.values())}, {len(foreign)} files",
            "0",
            not foreign,
            tuple(f"{path}: {num}" for path, num in foreign.items()),
        ),
        Measure("README bytes", f"{readme:,}", "≤ 8,192", readme <= 8192),
        Measure("pages of docs", str(len(pages)), "≥ 12", len(pages) >= 12, tuple(pages)),
    ]


def faults(modules: Modules) -> Iterator[str]:
    """A sentence for each circle and each file name that stands in several folders."""
    for kind, rings in ring_groups(modules).items():
        yield from (f"circle of {kind}: {', '.join(ring)}" for ring in rings)
    yield from (f"file name in several folders: {found}" for found in _listed(doubled_file_names(modules)))


def ring_groups(modules: Modules) -> dict[str, list[list[str]]]:
    """What goes in circles: packages, files, and files where imports under TYPE_CHECKING count."""
    files = circles(modules.imports())
    with_typing = circles(modules.imports(typing_too=True))
    return {
        "packages": circles(modules.package_imports()),
        "files": files,
        "files, imports for reading too": [ring for ring in with_typing if ring not in files],
    }


def doubled_file_names(modules: Modules) -> dict[str, list[str]]:
    """File name → its places, where that is more than one folder; `__init__` left out."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, module in modules.ours.items():
        if not module.is_init:
            places[module.stem].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def doubled_definitions(modules: Modules) -> dict[str, list[str]]:
    """Public class or top-level function → files, where several define one of the name."""
    places: dict[str, list[str]] = defaultdict(list)
    for path, module in modules.ours.items():
        for name in module.definitions:
            if "." not in name and not name.startswith("_"):
                places[name].append(path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def extending_names(modules: Modules) -> list[str]:
    """Files called as a neighbour of theirs with a word more (`generate_options` beside `generate`): parts of one idea."""
    stems: dict[str, set[str]] = defaultdict(set)
    for path, module in modules.ours.items():
        stems[str(Path(path).parent)].add(module.stem)
    return [
        path
        for path, module in modules.ours.items()
        if any(module.stem.startswith(f"{other}_") for other in stems[str(Path(path).parent)] if other != module.stem)
    ]


def used_by_one(modules: Modules) -> list[str]:
    """Modules that one other takes something of. `__init__` files that only hand on are no users; scripts are, and typing counts."""
    users: dict[str, set[str]] = defaultdict(set)
    for path, uses in modules.uses.items():
        module = modules.by_path[path]
        if not module.is_init or module.functions:
            for use in uses:
                users[use.target] |= {path} - {use.target}
    return [f"{path} by {next(iter(users[path]))}" for path, module in modules.ours.items() if not module.is_init and len(users[path]) == 1]


def passes_on(node: ast.AST) -> bool:
    """Whether a function does no more than call another one with its own arguments, all of them, in their order."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.name.startswith("__"):
        return False
    body = [each for each in node.body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
    call = body[0].value if len(body) == 1 and isinstance(body[0], (ast.Return, ast.Expr)) else None
    if not isinstance(call, ast.Call):
        return False
    own = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    own = own[1:] if own[:1] in (["self"], ["cls"]) else own
    given = [each.id if isinstance(each, ast.Name) else "" for each in call.args]
    named = [each.arg if isinstance(each.value, ast.Name) and each.value.id == each.arg else "" for each in call.keywords if each.arg]
    all_own = [*own, *(each.arg for each in node.args.kwonlyargs)]
    return bool(all_own) and given == own[: len(given)] and sorted([*given, *map(str, named)]) == sorted(all_own)


def handed_on(module: Module) -> list[str]:
    """Names of the package that a module imports for others to take from it: unused, listed in `__all__`, or `X as X`."""
    offered = {text for node in module.tree.body for text in _offered(node)}
    used = {node.id for node in ast.walk(module.tree) if isinstance(node, ast.Name)}
    quoted = {node.value for node in ast.walk(module.tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)} - offered
    words = {word for text in quoted for word in re.findall(r"\w+", text)}  # of quoted annotations
    imports = [node for node in module.tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE)]
    names = [name for node in imports for name in node.names]
    taken = [name.asname or name.name for name in names if name.asname == name.name or name.asname is None or name.asname in offered]
    explicit = {name.name for name in names if name.asname == name.name} | offered
    return [name for name in taken if name in explicit or name not in used | words]


def _offered(node: ast.stmt) -> list[str]:
    """What a statement `__all__ = [...]` lists."""
    if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
        return [str(each.value) for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
    return []


def foreign_lines(module: Module) -> int:
    """Lines inside long string constants that are neither docstrings nor tables of numbers."""
    blocks = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, blocks) and node.body and isinstance(node.body[0], ast.Expr)
    }
    strings = [node for node in ast.walk(module.tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    worded = [node for node in strings if id(node) not in docs and re.search("[a-zA-Z]", str(node.value))]
    spans = [(node.end_lineno or node.lineno) - node.lineno + 1 for node in worded]
    return sum(span for span in spans if span >= FOREIGN_LINES)


def _at_most(name: str, most: int, items: Sequence[str]) -> Measure:
    return Measure(name, str(len(items)), f"≤ {most}" if most else "0", len(items) <= most, tuple(items))


def _listed(places: dict[str, list[str]]) -> list[str]:
    return [f"{name}: {', '.join(paths)}" for name, paths in places.items()]
