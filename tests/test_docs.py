"""README and docs: every command can be read by the program it names; every option, setting, page and weight exists.

What needs no weights, GPU or cluster is run as well: test_readme.py, test_coming_from_mmaudio.py, test_guide.py, test_example.py.
`python -m tests.test_docs` writes the two tables of docs/architecture.md anew.
"""

import argparse
import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from mmaudio.base.errors import Problems
from mmaudio.commands.main import SUBCOMMANDS
from mmaudio.settings.compose import CONFIG_DIR, read_command
from mmaudio.settings.conversion import dotted_keys
from mmaudio.settings.data_sources import LISTS
from mmaudio.settings.schema import EvalSettings, TrainSettings
from mmaudio.weights.catalogue import CATALOGUE
from tests.conftest import ROOT
from tests.docs_pages import DOCS, PAGES, blocks, commands, spans
from tests.test_imports import EVERYTHING, MAY_IMPORT

MAX_README_BYTES, MIN_PAGES = 8192, 12
SETTINGS = {key for cls in (TrainSettings, EvalSettings) for key, _ in dotted_keys(cls)} | {f"data.{name}" for name in LISTS}


class Understood(BaseException):
    """What a program made of its words: it got as far as this, and does nothing."""

    def __init__(self, unknown: list[str]) -> None:
        super().__init__(unknown)
        self.unknown = unknown


@pytest.fixture
def understand(monkeypatch, tmp_path):
    """A function that lets the program of a command read its words, and raises what is wrong with them."""
    for page in PAGES:
        for block in blocks(page):
            if block.title is not None:
                (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.title).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    parse = argparse.ArgumentParser.parse_known_args

    def only_parse(parser: argparse.ArgumentParser, words: Any = None, namespace: Any = None) -> Any:
        raise Understood(parse(parser, words, namespace)[1])

    def run(function: Any) -> None:
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", only_parse)
        with pytest.raises((Understood, SystemExit)) as ended:
            function()
        monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
        if isinstance(ended.value, SystemExit):
            assert not ended.value.code  # help
        else:
            assert [word for word in ended.value.unknown if word.startswith("-") or "=" not in word] == []
            if ended.value.unknown:
                settings(ended.value.unknown, TrainSettings, "train_config")

    def settings(words: list[str], cls: Any, name: str) -> None:
        problems = Problems()
        read_command(words, cls, CONFIG_DIR, name, lambda _: "a_run", problems)
        assert problems.sentences == []

    def read(words: list[str]) -> None:
        program, *rest = words
        if program == "make":
            assert set(rest) <= set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        elif program == "torchrun":
            options = get_args_parser().parse_args(rest if any(not word.startswith("-") for word in rest) else [*rest, "train.py"])
            read([*([] if options.no_python else ["python"]), options.training_script, *options.training_script_args])
        elif program == "srun":
            read(words[next(place for place, word in enumerate(words) if place and not word.startswith("-")) :])
        elif program == "python" and rest and rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]) is not None
        elif program == "python" and rest:
            if not (tmp_path / rest[0]).is_file():  # else a script that the page itself shows
                read_script(rest[0], rest[1:])
        elif rest:
            read_subcommand(*rest)

    def read_script(script: str, words: list[str]) -> None:
        if script in ("train.py", "evaluate.py"):
            settings(words, *((TrainSettings, "train_config") if script == "train.py" else (EvalSettings, "eval_config")))
            return
        monkeypatch.setattr(sys, "argv", [script, *words])
        run(lambda: runpy.run_path(str(ROOT / script), run_name="__main__"))

    def read_subcommand(name: str, *words: str) -> None:
        if name.startswith("-"):
            assert name in ("--help", "--version")
            return
        assert name in SUBCOMMANDS
        if words and (name == "train" or (name == "evaluate" and "=" in words[0] and not words[0].startswith("-"))):
            settings([*words], *((TrainSettings, "train_config") if name == "train" else (EvalSettings, "eval_config")))
        elif words:
            module = importlib.import_module(f"mmaudio.commands.{name.replace('-', '_')}")
            if name != "weights" or words[0] != "list":  # which reads nothing more
                run(lambda: module.main([*words]))

    return read


def of_page(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_every_command_is_understood(understand, page):
    scripts = [block.text for block in blocks(page) if block.language == "bash"] + [*spans(page)]
    for script in scripts:
        for words in commands(script):
            try:
                understand(words)
            except BaseException as error:
                raise AssertionError(f"{page.name}: {' '.join(words)}") from error


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_options_and_settings_in_backticks_exist(page):
    sources = "".join(
        path.read_text() for path in [path for folder in ("mmaudio", "training", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    )
    sources += "".join(f'"{word}"' for action in get_args_parser()._actions for word in action.option_strings)
    for span in spans(page):
        option = re.match(r"(--[\w-]+)(?: |=|$)", span)
        if option:
            assert f'"{option[1]}"' in sources, f"{page.name}: {span}"
        setting = re.match(r"([a-z]\w*(?:\.\w+)*)=", span)
        if setting and not setting[1].startswith(("data.", "eval_data.", "solver.options.", "metrics.places.")):
            assert setting[1] in SETTINGS, f"{page.name}: {span}"


def test_the_readme_is_short_and_the_pages_are_many():
    assert len((ROOT / "README.md").read_bytes()) <= MAX_README_BYTES
    assert len([*DOCS.glob("*.md")]) >= MIN_PAGES


@pytest.mark.parametrize("page", PAGES, ids=of_page)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_has_a_line_for_every_package():
    tree = (ROOT / "README.md").read_text().split("## The tree")[1]
    assert set(re.findall(r"`mmaudio/(\w+)`", tree)) == MAY_IMPORT.keys()


def test_own_data_has_the_commands_of_the_readme():
    (ours,) = [block.text for block in blocks(DOCS / "own_data.md") if "# 1." in block.text]
    (readme,) = [block.text for block in blocks(ROOT / "README.md") if "# 1." in block.text]
    assert [*commands(ours)] == [*commands(readme)]


def test_the_table_of_licences_is_the_catalogue():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|", (DOCS / "weights.md").read_text(), re.MULTILINE)
    assert rows == [(row.name, row.licence, row.size) for row in CATALOGUE.values()]


def test_every_page_is_in_the_menu():
    def pages(entry: Any) -> list[str]:
        return (
            [entry]
            if isinstance(entry, str)
            else [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]
        )

    assert sorted(pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])) == sorted(path.name for path in DOCS.glob("*.md"))


def architecture() -> str:
    """The page with the tables as they are today."""
    text = (DOCS / "architecture.md").read_text()
    packages = [row for row in re.findall(r"^\| `mmaudio/(\w+)`", (ROOT / "README.md").read_text(), re.MULTILINE) if row in MAY_IMPORT]
    tree, imports = ["| package | files |", "|---|---|"], ["| package | may import |", "|---|---|"]
    for package in packages:
        folder, allowed = ROOT / "mmaudio" / package, MAY_IMPORT[package] - {"", package}
        folders = [folder, *sorted(path.parent for path in folder.glob("*/__init__.py"))]
        files = [f"`{path.relative_to(folder).with_suffix('')}`" for each in folders for path in sorted(each.glob("[!_]*.py"))]
        tree.append(f"| `{package}` | {' '.join(files)} |")
        listed = ", ".join(f"`{name}`" for name in packages if name in allowed)
        imports.append(
            f"| `{package}` | {listed if EVERYTHING - allowed - {'', package} else 'all'} |"
            if allowed
            else f"| `{package}` | nothing of ours |"
        )
    for name, table in (("tree", tree), ("imports", imports)):
        text = re.sub(
            rf"(<!-- {name}: [^\n]* -->\n).*?(<!-- end -->)",
            lambda found, table=table: "\n".join([found[1], *table, "", found[2]]),
            text,
            count=1,
            flags=re.DOTALL,
        )
    return text


def test_the_architecture_is_the_tree():
    assert (DOCS / "architecture.md").read_text() == architecture()


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "coming_from_mmaudio" / "index.html").is_file()


if __name__ == "__main__":
    (DOCS / "architecture.md").write_text(architecture())
