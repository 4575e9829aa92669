"""What all tests share: one arithmetic thread a process, and scripts run the way a user runs them."""

import functools
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mmaudio.trainer import costs, tracker

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def _found_once(count: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which keeps what it has found."""
    kept = functools.cache(count)

    def found(*words: Any, freeze: Sequence[str] = (), **named: Any) -> Any:
        return kept(*words, **named, **({"freeze": tuple(freeze)} if freeze else {}))

    return found


# Every training counts its operations and measures this machine, which takes a second. Here that is done once a process.
for _name in ("flops_per_row", "activation_bytes", "matmul_rate"):  # before other modules import them
    setattr(costs, _name, _found_once(getattr(costs, _name)))

draw_bar_chart = tracker._bar_chart


def _blank_chart(heights: list[float]) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(0.1, 0.1))


# Drawing takes longer than a step of a tiny network. One test of the tracker draws.
tracker._bar_chart = _blank_chart


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Two pools of threads on two cores slow a small step tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    """A test draws the same random numbers in whatever company it runs."""
    torch.manual_seed(0)


@contextmanager
def own_handlers() -> Iterator[None]:
    """Let an entry point attach handlers and take threads as in a process of its own, and take both back after it."""
    root, threads = logging.getLogger(), torch.get_num_threads()
    handlers, level = list(root.handlers), root.level
    root.handlers.clear()  # the entry point's own handlers take their place, and close what they find
    try:
        yield
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
            handler.close()
        root.handlers.extend(handlers)
        root.setLevel(level)
        torch.set_num_threads(threads)


def train_in_process(folder: Path, *words: object) -> None:
    """Run train.py with these words in this folder, in this process, for fixtures of a whole module."""
    with own_handlers(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["train.py", *(str(word) for word in words)])
        with pytest.raises(SystemExit) as leave:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert not leave.value.code


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a script of the repository in this process, with these words, in the current folder."""

    def run(script: str, *words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", [script, *(str(word) for word in words)])
        capfd.readouterr()
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        said = capfd.readouterr()
        return Ended(code, said.out, said.err)

    return run


@pytest.fixture
def run_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `mmaudio …` in this process."""
    from mmaudio.commands.main import main

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mmaudio", *(str(word) for word in words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as leave:
            main()
        said = capfd.readouterr()
        return Ended(int(leave.value.code or 0), said.out, said.err)

    return run


def torchrun(*words: object, processes: int = 2, cwd: Path = ROOT, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script under torchrun, as the training guide does."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        *(str(word) for word in words),
    ]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300)
