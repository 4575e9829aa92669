"""What README.md and the pages of docs/ say: their blocks of code, the commands in them, and the words in backticks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r'^(?P<why><!-- not run: .* -->\n)?```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S)
INDENTED = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.M)
PROGRAMS = ("mmaudio", "python", "torchrun", "srun", "make")


@dataclass(frozen=True)
class Block:
    """A block of code. `title` is the file it shows; `is_run` whether the tests run it as it stands."""

    language: str
    title: str | None
    text: str
    is_run: bool


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order; indented ones, as README.md has them, count as bash that is run elsewhere."""
    text = page.read_text()
    found = [Block(each["language"], each["title"], each["text"], each["why"] is None) for each in FENCE.finditer(text)]
    prose = FENCE.sub("", text)
    return found + [Block("bash", None, re.sub(r"^    ", "", each.group(), flags=re.M), False) for each in INDENTED.finditer(prose)]


def commands(script: str) -> Iterator[list[str]]:
    """The words of every command of a script, without comments, variables before it and what follows `||`."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for stop in ("||", ";"):
            words = words[: words.index(stop)] if stop in words else words
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            words = words[1:]
        if words and words[0] in PROGRAMS:
            yield [word for word in words if word not in ("…", "KEY=VALUE")]


def spans(page: Path) -> Iterator[str]:
    """What stands in backticks; of a table that maps the published system's words, not the first column, which has those."""
    prose = FENCE.sub("", page.read_text())
    if page.stem == "coming_from_mmaudio":
        prose = re.sub(r"^\|[^|]*\|", "|", prose, flags=re.M)
    for each in re.finditer(r"`([^`]+)`", prose):
        yield " ".join(each.group(1).split())
