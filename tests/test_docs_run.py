"""The commands of docs/ run as they are printed there, after the five stages, but for a smaller network and fewer steps."""

from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs_pages import DOCS, blocks, make_place, run_block

pytestmark = pytest.mark.slow
RUN = [page for page in sorted(DOCS.glob("*.md")) if any(block.is_run and block.language == "bash" for block in blocks(page))]


def quicker(script: str) -> str:
    return script.replace("tiny_16k", "nano_16k").replace("num_iterations=20", "num_iterations=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the five stages of the README have been run."""
    folder = make_place(tmp_path_factory.mktemp("docs"))
    (stages,) = [block.text for block in blocks(ROOT / "README.md") if "# 1." in block.text]
    run_block(quicker(stages), folder)
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of(place, page):
    for block in blocks(page):
        if block.title is not None:
            (place / block.title).parent.mkdir(parents=True, exist_ok=True)
            (place / block.title).write_text(block.text)
        elif block.is_run and block.language == "bash":
            run_block(quicker(block.text), place)
