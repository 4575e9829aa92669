"""What README.md and the pages of docs/ say: their blocks of code, commands, words in backticks; and a place to run them."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mmaudio.files.tables import write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(
    r'^(?P<why><!-- not run: [^\n]+ -->\n)?```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S
)
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
    """The blocks of a page, in order. Those of README.md are indented, and run elsewhere."""
    text = page.read_text()
    if page.name == "README.md":
        return [Block("bash", None, re.sub(r"^    ", "", each.group(), flags=re.M), False) for each in INDENTED.finditer(text)]
    return [Block(each["language"], each["title"], each["text"], each["why"] is None) for each in FENCE.finditer(text)]


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


def make_place(folder: Path) -> Path:
    """A folder that looks like the repository to the commands, with data of a user's own in `my/`."""
    for name in ("training", "train.py", "evaluate.py"):
        (folder / name).symlink_to(ROOT / name)
    videos, sounds = (draw_bounces(31, "readme", i, 8.4) for i in (0, 1)), (draw_bounces(31, "readme", i, 17.0) for i in (2, 3))
    captions: dict[str, dict[str, str]] = {"videos": {}, "sounds": {}}
    for index, bounces in enumerate(videos):
        write_video(folder / f"my/videos/0000{index}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 44_100), 44_100)
        captions["videos"][f"0000{index}"] = bounces.ball.caption
    for index, bounces in enumerate(sounds):
        write_flac(folder / f"my/sounds/1e{index}.flac", render_sound(bounces, 22_050), 22_050)
        captions["sounds"][f"1e{index}"] = bounces.ball.caption
    write_table(folder / "my/videos.tsv", ("id", "label"), captions["videos"].items())
    write_table(folder / "my/sounds.tsv", ("id", "caption"), captions["sounds"].items())
    return folder


def run_block(script: str, folder: Path) -> None:
    """Run a block as a user would in that folder, with the environment active; every command has to end well."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
