"""What there is to know of the code base, as two tables with their aims, and what must not be.

    python -m tools.house
    python -m tools.house --lists          also what is behind each figure, and every step of every story

Exit 1 for a circle of imports (packages, files, files with the imports for reading alone), a file name that stands in two folders,
or a story with a step that is gone. Figures that miss their aim are marked and no reason to fail. Which package may import which is
held by tests/test_imports.py.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.house import measures, stories
from tools.house.modules import Modules
from tools.house.stories import AIMS, STORIES, Story, read_stories

ROOT = Path(__file__).resolve().parents[2]


def measure_table(found: Sequence[measures.Measure]) -> list[str]:
    """A measure a line: the figure, its aim, and `missed` where that is so."""
    lines = [f"{'measure':<58} {'now':>22}  aim", "-" * 100]
    return lines + [f"{row.name:<58} {row.now:>22}  {row.aim}{'' if row.is_met else '  missed'}" for row in found]


def story_table(found: Sequence[Story]) -> list[str]:
    """A story a line: files entered / changes of file, and their aims."""
    lines = ["", f"{'story: files entered / changes of file':<58} {'steps':>6} {'now':>15}  aim", "-" * 100]
    for story in found:
        now = len(story.files()), story.num_changes()
        lines.append(_story_line(story.title, len(story.steps), now, AIMS.get(story.title[0])))
    steps, files, changes = (sum(each) for each in zip(*((len(s.steps), len(s.files()), s.num_changes()) for s in found), strict=True))
    aims = sum(files for files, _ in AIMS.values()), sum(changes for _, changes in AIMS.values())
    return [*lines, _story_line("all", steps, (files, changes), aims)]


def _story_line(title: str, steps: int, now: tuple[int, int], aim: tuple[int, int] | None) -> str:
    missed = "  missed" if aim and (now[0] > aim[0] or now[1] > aim[1]) else ""
    return f"{title:<58} {steps:>6} {now[0]:>7} / {now[1]:>5}" + (f"  {aim[0]} / {aim[1]}{missed}" if aim else "")


def lists(found: Sequence[measures.Measure], told: Sequence[Story]) -> list[str]:
    """What the figures of both tables were counted from."""
    lines = []
    for row in found:
        lines += ["", f"## {row.name}: {row.now}", *(f"  {item}" for item in row.items)] if row.items else []
    for story in told:
        lines += ["", f"## {story.title}", f"files: {', '.join(story.files())}"]
        lines += [f"{'  ' * step.depth}{step.place}{f'  ({step.how})' if step.how else ''}" for step in story.steps]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.house", description="How hard the code base is to know, and what must not be.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="repository (default: this one)")
    parser.add_argument("--stories", type=Path, default=STORIES, help="stories to follow (default: those of this folder)")
    parser.add_argument("--lists", action="store_true", help="also print what the figures were counted from")
    options = parser.parse_args(argv)
    modules, told = Modules(options.root), read_stories(options.stories)
    found = measures.measures(modules)
    print("\n".join([*measure_table(found), *story_table(told), *(lists(found, told) if options.lists else ())]))
    wrong = [*measures.faults(modules), *(fault for story in told for fault in stories.faults(story, modules))]
    print("\n".join(["", *(f"FAULT {fault}" for fault in wrong)]) if wrong else "\nno circle, no doubled file name, every step is there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
