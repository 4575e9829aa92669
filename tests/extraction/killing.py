"""Scripts started as a user starts them, killed in one way or another, and looked after: nothing may go on without them."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mmaudio.base.machine import child_environment
from tests.conftest import ROOT

WAYS = ("all at once", "the launcher", "one worker")
GONE_WITHIN_S = 30.0


def processes_of(marker: str) -> list[int]:
    """Running processes that have these words in their command line, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                is_zombie = "\nState:\tZ" in (entry / "status").read_text()
                if marker.encode() in (entry / "cmdline").read_bytes() and not is_zombie:
                    found.append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return sorted(found)


def start(script: str, words: list[object], processes: int, log: Path) -> "subprocess.Popen[bytes]":
    """Start a script by itself, or under torchrun, in a session of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    command = [sys.executable, *launcher, script, *(str(word) for word in words)]
    with open(log, "ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=child_environment(), start_new_session=True)


def victims(running: "subprocess.Popen[bytes]", way: str, marker: str, draw: random.Random) -> list[int]:
    """The processes that are killed in this way."""
    others = [process for process in processes_of(marker) if process != running.pid]
    return {"all at once": [running.pid, *others], "the launcher": [running.pid], "one worker": [draw.choice(others or [running.pid])]}[way]


def kill_each(processes: Iterable[int]) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def kill(running: "subprocess.Popen[bytes]", way: str, marker: str, draw: random.Random) -> None:
    """Kill, and wait until every process of the script is gone. Fails if one stays."""
    kill_each(victims(running, way, marker, draw))
    wait_until_gone(running, marker)


def wait_until_gone(running: "subprocess.Popen[bytes]", marker: str, limit_s: float = GONE_WITHIN_S) -> None:
    until = time.monotonic() + limit_s
    while running.poll() is None or processes_of(marker):
        assert time.monotonic() < until, f"still running after {limit_s} s: {processes_of(marker)}"
        time.sleep(0.1)
