"""Stand-ins for a launcher and for what it launches, without torch: `launched.py launcher WAY LOG`.

The launcher calls itself what torchrun does, starts a worker as torchrun does, and is killed. WAY is how the worker is started, or when
it begins to look after its launcher: `plainly`, `wrapped` in a shell, or `late`, when the launcher is gone.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmaudio.distributed.ranks import launcher_is_gone, read_ranks, watch_launcher


def launch(way: str, log: str) -> None:
    Path("/proc/self/comm").write_text("pt_elastic")
    words = [sys.executable, __file__, "worker", way, log]
    if way == "wrapped":
        words = ["sh", "-c", '"$@"; true', "sh", *words]
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}
    subprocess.Popen(words, start_new_session=True, env={**os.environ, **place}).wait()


def work(way: str, log: str) -> None:
    def say(what: str) -> None:
        with open(log, "a") as file:
            file.write(f"{what}\n")

    def end(*_: object) -> None:
        say(f"asked to end, launcher gone: {launcher_is_gone()}")
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    if way == "late":
        parent = os.getppid()
        say("ready")
        while os.getppid() == parent:
            time.sleep(0.02)
    watch_launcher(read_ranks())
    if way != "late":
        say("ready")
    time.sleep(5)
    say("nobody said anything")


if __name__ == "__main__":
    {"launcher": launch, "worker": work}[sys.argv[1]](*sys.argv[2:])
