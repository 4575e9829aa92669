"""A job of processes that take steps together, for the tests of how such jobs end: started by a launcher, or by hand.

peer_job.py WAY RANK SECONDS: this rank does it (raise, mistake, kill, hang, deaf, stop, leave, nothing) at step 3; SECONDS is the time
without progress after which a job hangs.
"""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist

from mmaudio.base.errors import UserError, run_entry_point
from mmaudio.base.logs import start_logging
from mmaudio.distributed.collectives import process_group
from mmaudio.distributed.heartbeat import ProcessId
from mmaudio.distributed.ranks import read_ranks
from mmaudio.distributed.watchdog import watch_ranks


def misbehave(way: str) -> None:
    if way == "raise":
        raise ValueError("this row is broken")
    if way == "mistake":
        raise UserError("this file is missing; name another")
    if way == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if way == "hang":
        time.sleep(1000)
    if way == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if way == "leave":
        os._exit(0)


def main() -> int:
    way, who, hang_timeout_s = sys.argv[1].removeprefix("far"), int(sys.argv[2]), float(sys.argv[3])
    if sys.argv[1] != way:
        ProcessId.is_seen_from = lambda self, other: self == other
    ranks = read_ranks()
    start_logging(ranks.rank)
    with process_group(ranks, torch.device("cpu")) as store, watch_ranks(ranks, store, hang_timeout_s) as heartbeat:
        for steps_done in range(60):
            heartbeat.beat("train", steps_done)
            if steps_done == 3 and ranks.rank == who:
                print(f"rank {who} does it, process {os.getpid()}", flush=True)
                misbehave(way)
            total = torch.ones(1)
            dist.all_reduce(total)
            assert total == ranks.world_size
            time.sleep(0.1)
    print(f"rank {ranks.rank} is done", flush=True)
    return 0


if __name__ == "__main__":
    run_entry_point(main, speaks=lambda: read_ranks().is_first)
