"""How a job ends when one of its processes does: in seconds, with one reason, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.extraction.killing import processes_of

pytestmark = pytest.mark.slow
SCRIPT = "tests/distributed/failing_job.py"
LIMIT_S = 30.0


@dataclass
class Job:
    """A running job: of a launcher, or of processes that nobody looks after."""

    started: "list[subprocess.Popen[bytes]]"
    log: Path
    marker: str

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str, limit_s: float = 60.0) -> "re.Match[str]":
        until = time.monotonic() + limit_s
        while not (found := re.search(words, self.text())):
            assert time.monotonic() < until, self.text()
            time.sleep(0.05)
        return found

    def end(self, limit_s: float = LIMIT_S) -> float:
        """Wait until every process is gone. Returns the seconds it took."""
        began = time.monotonic()
        while any(process.poll() is None for process in self.started) or processes_of(self.marker):
            assert time.monotonic() < began + limit_s, f"still there: {processes_of(self.marker)}\n{self.text()}"
            time.sleep(0.05)
        return time.monotonic() - began


def slurm_step(rank: int, num_tasks: int) -> dict[str, str]:
    """What `srun` tells a task of a step of one machine."""
    tasks = {"SLURM_NTASKS": num_tasks, "SLURM_STEP_NUM_TASKS": num_tasks, "SLURM_STEP_TASKS_PER_NODE": num_tasks}
    place = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": 0}
    step = {"SLURM_JOB_ID": os.getpid(), "SLURM_STEP_ID": time.monotonic_ns() % 1000, "SLURM_STEP_NODELIST": "localhost"}
    return {name: str(value) for name, value in {**tasks, **place, **step}.items()}


@pytest.fixture
def start(tmp_path, monkeypatch, record_property):
    """Start the job under a launcher (`torchrun`, or `srun` as far as its tasks can tell)."""
    jobs = []

    def begin(launcher: str, way: str, rank: int, hang_timeout_s: float = 1000.0, num: int = 2) -> Job:
        log = tmp_path / "log"
        words = [SCRIPT, way, str(rank), str(hang_timeout_s), str(tmp_path)]
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num}"] if launcher == "torchrun" else []
        steps = [{}] if launcher == "torchrun" else [slurm_step(rank, num) for rank in range(num)]
        common = slurm_step(0, num)["SLURM_STEP_ID"]
        with open(log, "ab") as file:
            started = [
                subprocess.Popen(
                    [sys.executable, *launch, *words],
                    cwd=ROOT,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                    env={**os.environ, **step, **({"SLURM_STEP_ID": common} if step else {})},
                )
                for step in steps
            ]
        jobs.append(Job(started, log, str(tmp_path)))
        return jobs[-1]

    yield begin
    for job in jobs:
        for pid in [process.pid for process in job.started if process.poll() is None] + processes_of(job.marker):
            os.kill(pid, signal.SIGKILL)


LAUNCHERS = pytest.mark.parametrize("launcher", ["torchrun", "srun"])


@LAUNCHERS
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(start, launcher, rank):
    job = start(launcher, "kill", rank)
    job.wait_for("does it")
    took_s = job.end()
    print(f"{launcher}: rank {rank} killed, job gone after {took_s:.1f} s")
    assert f"rank {1 - rank} leaves: rank {rank} failed first: its process " in job.text()
    assert job.text().count("leaves: ") == 1 and SCRIPT + '"' not in job.text()  # no traceback
    assert "is done" not in job.text() and any(process.returncode == 1 for process in job.started)


@pytest.mark.parametrize("rank", [1, 2])
def test_a_machine_that_is_not_heard_of_ends_all(start, rank):
    job = start("srun", "farkill", rank, num=3)
    job.wait_for("does it")
    took_s = job.end()
    print(f"rank {rank} of 3 killed on a machine of its own, job gone after {took_s:.1f} s")
    others = {0, 1, 2} - {rank}
    assert set(re.findall(r"rank (\d) leaves: rank (\d) failed first: its process", job.text())) == {
        (str(each), str(rank)) for each in others
    }
    assert SCRIPT + '"' not in job.text()


@LAUNCHERS
@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_is_shown_once(start, launcher, rank):
    job = start(launcher, "raise", rank)
    job.wait_for("does it")
    took_s = job.end()
    print(f"{launcher}: rank {rank} raised, job gone after {took_s:.1f} s")
    text = job.text()
    assert text.count("in misbehave\n") == 1 and text.count("\nValueError: this row is broken") == 1
    assert text.count("leaves: ") == 1 and "Connection" not in text
    assert f"rank {1 - rank} leaves: rank {rank} failed first: ValueError: this row is broken" in text
    if launcher == "torchrun":
        assert f"rank      : {rank} " in text
    else:
        assert [process.returncode for process in job.started] == [1, 1]


@LAUNCHERS
@pytest.mark.parametrize("rank", [0, 1])
def test_a_mistake_is_told_by_the_process_that_found_it(start, launcher, rank):
    job = start(launcher, "mistake", rank)
    job.wait_for("does it")
    took_s = job.end()
    print(f"{launcher}: rank {rank} found a mistake, job gone after {took_s:.1f} s")
    assert job.text().count("error: this file is missing; name another") == 1
    assert SCRIPT + '"' not in job.text() and "leaves" not in job.text()
    if launcher == "torchrun":
        assert "exitcode  : 2" in job.text()
    else:
        assert [process.returncode for process in job.started] == [2, 2]


@LAUNCHERS
@pytest.mark.parametrize("rank", [0, 1])
def test_a_hang_is_reported_with_ranks_and_stacks(start, launcher, rank):
    job = start(launcher, "hang", rank, hang_timeout_s=4.0)
    job.wait_for("does it")
    took_s = job.end(limit_s=40.0)
    print(f"{launcher}: rank {rank} hung, timeout 4 s, job gone after {took_s:.1f} s")
    text = job.text()
    assert len(re.findall(r"no process made progress for \d+ s:", text)) == 1
    assert re.search(r"rank 0: train, 3 steps done, \d+ s ago\nrank 1: train, 3 steps done, \d+ s ago\n", text)
    stacks = dict(re.findall(r"rank (\d) hangs:\n(.*?)(?=rank \d hangs|\Z)", text, re.DOTALL))
    assert set(stacks) == {"0", "1"}
    assert "time.sleep(1000)" in text and "dist.all_reduce(total)" in text


@LAUNCHERS
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_stopped_for_a_while_goes_on(start, launcher, rank):
    job = start(launcher, "stop", rank)
    stopped = int(job.wait_for(r"does it, process (\d+)")[1])
    time.sleep(20.0)
    assert "leaves" not in job.text()
    os.kill(stopped, signal.SIGCONT)
    job.end()
    assert "rank 0 is done" in job.text() and "rank 1 is done" in job.text() and "leaves" not in job.text()


def test_a_job_that_is_stopped_as_a_whole_goes_on(start):
    job = start("srun", "nothing", 1, hang_timeout_s=5.0)
    job.wait_for("does it")
    for sign in (signal.SIGSTOP, signal.SIGCONT):
        for process in job.started:
            process.send_signal(sign)
        time.sleep(16.0 if sign == signal.SIGSTOP else 0.0)
    job.end()
    assert [process.returncode for process in job.started] == [0, 0]


def test_a_process_that_leaves_without_a_word_ends_all(start):
    job = start("srun", "leave", 1)
    job.wait_for("does it")
    job.end()
    assert [process.returncode for process in job.started] == [1, 0]
    assert "rank 0 leaves: rank 1 failed first" in job.text()


@LAUNCHERS
def test_a_healthy_job_ends_well(start, launcher):
    job = start(launcher, "nothing", 0)
    job.end(limit_s=60.0)
    assert all(process.returncode == 0 for process in job.started)
    assert "rank 0 is done" in job.text() and "rank 1 is done" in job.text() and " E " not in job.text()


def test_without_its_launcher_a_job_ends(start):
    job = start("torchrun", "hang", 1)
    job.wait_for("does it")
    job.started[0].kill()
    took_s = job.end()
    print(f"torchrun killed, job gone after {took_s:.1f} s")
    assert took_s < 10.0


@pytest.mark.parametrize("rank", [0, 1])
def test_without_its_launcher_a_job_that_cannot_end_well_ends_all_the_same(start, rank):
    job = start("torchrun", "deaf", rank, hang_timeout_s=8.0)
    job.wait_for("does it")
    job.started[0].kill()
    took_s = job.end()
    print(f"torchrun killed while rank {rank} hung and heard no signal, job gone after {took_s:.1f} s")
    assert re.search(r"the launcher is gone, and there was no progress for \d+ s; this process leaves", job.text())
