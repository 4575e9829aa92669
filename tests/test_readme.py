"""The README's five stages, as they are printed there, on data of one's own."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs_pages import make_place, run_block

pytestmark = pytest.mark.slow


def commands() -> str:
    """The indented block of the section, without its indent."""
    section = (ROOT / "README.md").read_text().split("## Your own data")[1]
    block = re.search(r"(?:^(?:    .*)?\n)+", section[section.index("    # 1.") :], re.MULTILINE)
    assert block is not None
    return re.sub(r"^    ", "", block.group(0), flags=re.MULTILINE)


@pytest.fixture
def place(tmp_path) -> Path:
    return make_place(tmp_path)


def test_the_five_stages_as_printed(place):
    script = commands()
    assert all(word in script for word in ("partition_clips.py", "extract_audio", "extract_video", "train.py", "mmaudio report"))
    run_block(script, place)
    assert (place / "output/mine/report/index.html").is_file()
    assert sorted(path.name for path in (place / "output/mine/samples").glob("*.mp4")) == ["00000.mp4", "00001.mp4"]
