"""Ten stories followed through the code: how many files a reader enters, and how often the story changes from one file to another.

A story (`stories.txt`, beside this) is a tree of steps, an indented line each: `file:function`, under the function that calls it.
They were written by hand from the code, on the way that the example takes (the `lite` backend, one process, a CPU), and hold every
function that moves, makes or decides on what the story is about; logging, errors and getters are left out. Each step is checked:
the function is there, and the function above it names it. `~` marks a step that is reached otherwise, and says how behind `#`: a
callable that was handed over, a method of a subclass, a file on disk. A step without a function is the file itself, a script or an
asset; in a YAML file the name is a key. Lines that begin with `//` are remarks.

Counted are the files entered, and the changes of file on the way of an eye that reads the tree in order and returns to the caller
before it follows the caller's next call.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.house.modules import Modules

STORIES = Path(__file__).with_name("stories.txt")
AIMS = {  # files, changes of file
    "a": (33, 65),
    "b": (22, 51),
    "c": (15, 36),
    "d": (17, 59),
    "e": (23, 72),
    "f": (23, 65),
    "g": (24, 70),
    "h": (31, 72),
    "i": (20, 48),
    "j": (11, 23),
}


@dataclass(frozen=True)
class Step:
    """A function of a story, or with no name a file; `how` says how it is reached where its caller does not name it."""

    depth: int
    file: str
    name: str
    how: str | None

    @property
    def place(self) -> str:
        return f"{self.file}:{self.name}"


@dataclass(frozen=True)
class Story:
    """A title, whose first letter is what the story is called by, and its steps in the order of the code."""

    title: str
    steps: tuple[Step, ...]

    def files(self) -> list[str]:
        """Entered, in order, each once."""
        return list(dict.fromkeys(step.file for step in self.steps))

    def num_changes(self) -> int:
        files = [step.file for step in _way_of(self.steps)]
        return sum(before != after for before, after in zip(files, files[1:], strict=False))


def read_stories(path: Path = STORIES) -> list[Story]:
    """The stories of a file, in its order."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip() and not line.startswith("//")]
    starts = [index for index, line in enumerate(lines) if line.startswith("# ")]
    spans = zip(starts, [*starts[1:], len(lines)], strict=True)
    return [Story(lines[start][2:], tuple(_step(line) for line in lines[start + 1 : end])) for start, end in spans]


def _step(line: str) -> Step:
    word, _, how = line.strip().partition("  # ")
    file, _, name = word.lstrip("~").partition(":")
    return Step((len(line) - len(line.lstrip())) // 2, file, name, (how or "otherwise") if word.startswith("~") else None)


def _way_of(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps as an eye goes through them: back at the caller before the caller's next call."""
    callers: list[Step] = []
    for step in steps:
        if len(callers) > step.depth > 0:
            yield callers[step.depth - 1]
        del callers[step.depth :]
        callers.append(step)
        yield step


def faults(story: Story, modules: Modules) -> Iterator[str]:
    """What does not hold of a story: a step that is not there, or that the function above it does not name."""
    callers: list[Step] = []
    for step in story.steps:
        del callers[step.depth :]
        if not _is_there(step, modules):
            yield f"story {story.title[0]}: {step.place} is not there{_elsewhere(step, modules)}"
        elif step.how is None and callers and _is_there(callers[-1], modules):
            fault = _unnamed(callers[-1], step, modules)
            if fault:
                yield f"story {story.title[0]}: {fault}"
        callers.append(step)


def _is_there(step: Step, modules: Modules) -> bool:
    path = modules.root / step.file
    if step.file in modules.by_path:
        return not step.name or step.name in modules.by_path[step.file].definitions
    if not path.is_file() or step.file.endswith(".py"):
        return False
    return not step.name or bool(re.search(rf"^{re.escape(step.name)}:", path.read_text(encoding="utf-8"), re.MULTILINE))


def _elsewhere(step: Step, modules: Modules) -> str:
    """Where something of the step's name is now, to anchor it again."""
    places = [path for path, module in modules.by_path.items() if step.name and step.name in module.definitions]
    return f" ({step.name} is in {', '.join(places[:3])})" if places else ""


def _unnamed(caller: Step, step: Step, modules: Modules) -> str | None:
    """Why a caller cannot be seen to call a step; None where it can: it names it, by an import, in its file, or as an attribute."""
    module = modules.by_path[caller.file]
    node: ast.AST = module.definitions[caller.name] if caller.name else module.tree
    owner, _, own = step.name.rpartition(".")
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    names |= {each.asname or each.name for sub in ast.walk(node) if isinstance(sub, ast.ImportFrom) for each in sub.names}
    attributes = {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    if owner:
        return None if own in attributes or (own == "__init__" and owner in names) else f"{caller.place} names no .{own} ({step.place})"
    if own not in names | attributes:
        return f"{caller.place} does not name {own} ({step.place})"
    reaches = {use.target for use in modules.uses[caller.file]} | {caller.file}
    return None if step.file in reaches else f"{caller.file} does not import {step.file}"
