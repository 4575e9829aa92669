"""Copies that training cannot change, and a thread that writes them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import OrderedDict

import pytest
import torch

from mmaudio.checkpoints.load import newest_checkpoint
from mmaudio.checkpoints.run_files import RunFiles, RunState
from mmaudio.checkpoints.save import BackgroundWriter, HostCopies
from mmaudio.files.atomic import sweep_below
from tests.conftest import ROOT


def nest(value: float) -> RunState:
    weights = OrderedDict(w=torch.full((3, 2), value), n=torch.tensor(2), half=torch.full((2, 1), value, dtype=torch.bfloat16).mT)
    moments = {0: {"step": torch.tensor(value), "exp_avg": torch.full((3, 2), value)}}
    return RunState(4, weights, {"state": moments, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.95)}]}, {"last_epoch": 4}, None)


def test_a_copy_stays_what_it_was():
    live = nest(1.0)
    copied = HostCopies().copy(live)
    for tensor in (live.weights["w"], live.weights["half"], live.optimizer["state"][0]["exp_avg"], live.optimizer["state"][0]["step"]):
        tensor.fill_(7.0)
    torch.testing.assert_close(copied.weights["w"], torch.ones(3, 2))
    assert copied.weights["half"].tolist() == [[1, 1]] and copied.weights["half"].dtype == torch.bfloat16
    assert copied.optimizer["state"][0]["step"] == 1 and copied.optimizer["state"][0]["exp_avg"].eq(1).all()
    assert copied.optimizer["param_groups"] == [{"lr": 0.1, "betas": (0.9, 0.95)}]
    assert (copied.steps_done, copied.scheduler, copied.ema) == (4, {"last_epoch": 4}, None)


def test_memory_is_used_again_but_never_while_someone_holds_it():
    copies = HostCopies()
    first, second = copies.copy(nest(1.0)), copies.copy(nest(2.0))
    size = copies.num_bytes
    assert first.weights["w"].eq(1).all() and second.weights["w"].eq(2).all()
    place = first.weights["w"].data_ptr()
    del first
    third = copies.copy(nest(3.0))
    assert copies.num_bytes == size and third.weights["w"].data_ptr() == place
    assert second.weights["w"].eq(2).all()


def test_what_is_gathered_first_and_who_only_takes_part():
    seen = []

    def whole(tensor):
        seen.append(tensor)
        return tensor * 2

    assert HostCopies().copy([torch.ones(1)], whole)[0] == 2
    others = HostCopies()
    assert others.copy(nest(1.0), whole, keeps=False) is None
    assert len(seen) == 6 and others.num_bytes == 0


def test_writes_come_one_at_a_time_in_order():
    done, may_go = [], threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lambda: (may_go.wait(), done.append(threading.current_thread().name)))
        assert done == []
        threading.Timer(0.1, may_go.set).start()
        writer.submit(lambda: done.append(2))
        assert done[0] == "checkpoint writer"
    assert done[1:] == [2]


def test_what_a_write_raises_comes_to_who_waits():
    writer = BackgroundWriter()
    writer.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writer.submit(lambda: pytest.fail("must not begin"))
    writer.wait()
    writer.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        writer.wait()


def test_a_written_copy_frees_its_memory():
    copies, writer = HostCopies(), BackgroundWriter()
    for value in range(4):
        copied = copies.copy([torch.full((5,), float(value))])
        writer.submit(lambda copied=copied: time.sleep(0.01))
        del copied
    writer.wait()
    assert copies.num_bytes == 2 * 5 * 4  # one being written, one being made


WRITE = """
import os, sys
from pathlib import Path
import torch
from mmaudio.checkpoints.save import BackgroundWriter, HostCopies
from mmaudio.checkpoints.run_files import RunFiles, RunState, WeightsRecord
from mmaudio.checkpoints.save import save_checkpoint
for _ in sys.stdin:  # a process for each line, which is to be killed
    if not (child := os.fork()):
        break
    print(child, flush=True)
    os.waitpid(child, 0)
    print("over", flush=True)
else:
    sys.exit()
files, live, copies, writer = RunFiles(Path(sys.argv[1]), "x"), torch.ones(200_000), HostCopies(), BackgroundWriter()
for step in range(1, 10**6):
    copied = copies.copy(RunState(step, {"w": live.fill_(step)}, {"state": {}, "param_groups": []}, {"last_epoch": step}, None))
    record = WeightsRecord("nano_16k", "16k", 8.0, "lite", step, "x")
    writer.submit(lambda copied=copied, record=record: save_checkpoint(files, copied, record, keep=4))
    print(step, flush=True)
"""


def test_a_kill_during_a_write_leaves_whole_checkpoints(tmp_path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, **pipes)
    for tries in range(4):
        print("go", file=process.stdin, flush=True)
        writer = int(process.stdout.readline())
        for _ in range(4):
            process.stdout.readline()
        time.sleep(0.003 * tries)
        os.kill(writer, signal.SIGKILL)
        while not process.stdout.readline().endswith("over\n"):
            pass
        found = newest_checkpoint(RunFiles(tmp_path, "x"))
        assert found.skipped == ()
        assert found.state.weights["w"].eq(found.state.steps_done).all()
    process.communicate()
    sweep_below(tmp_path)  # a kill may also fall into the write of a record
    assert not any(name.endswith(".tmp") for name in os.listdir(tmp_path))


def test_an_exit_waits_for_the_write(tmp_path):
    code = f"""
import time
from mmaudio.checkpoints.save import BackgroundWriter
BackgroundWriter().submit(lambda: (time.sleep(0.5), open({str(tmp_path / "done")!r}, "w").close()))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    assert (tmp_path / "done").exists()
