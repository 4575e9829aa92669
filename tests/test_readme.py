"""The README's five stages, as they are printed there, on data of one's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.files.tables import write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def commands() -> str:
    """The indented block of the section, without its indent."""
    section = (ROOT / "README.md").read_text().split("## Your own data")[1]
    block = re.search(r"(?:^(?:    .*)?\n)+", section[section.index("    # 1.") :], re.MULTILINE)
    assert block is not None
    return re.sub(r"^    ", "", block.group(0), flags=re.MULTILINE)


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder that looks like the repository to the commands, with data of a user's own in `my/`."""
    for name in ("training", "train.py", "evaluate.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    videos, sounds = (draw_bounces(31, "readme", i, 8.4) for i in (0, 1)), (draw_bounces(31, "readme", i, 17.0) for i in (2, 3))
    captions = {"videos": {}, "sounds": {}}
    for index, bounces in enumerate(videos):
        write_video(tmp_path / f"my/videos/0000{index}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 44_100), 44_100)
        captions["videos"][f"0000{index}"] = bounces.ball.caption
    for index, bounces in enumerate(sounds):
        write_flac(tmp_path / f"my/sounds/1e{index}.flac", render_sound(bounces, 22_050), 22_050)
        captions["sounds"][f"1e{index}"] = bounces.ball.caption
    write_table(tmp_path / "my/videos.tsv", ("id", "label"), captions["videos"].items())
    write_table(tmp_path / "my/sounds.tsv", ("id", "caption"), captions["sounds"].items())
    return tmp_path


def test_the_five_stages_as_printed(place):
    script = commands()
    assert all(word in script for word in ("partition_clips.py", "extract_audio", "extract_video", "train.py", "mmaudio report"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-ec", script], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (place / "output/mine/report/index.html").is_file()
    assert sorted(path.name for path in (place / "output/mine/samples").glob("*.mp4")) == ["00000.mp4", "00001.mp4"]
