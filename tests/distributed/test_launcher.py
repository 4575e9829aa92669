"""What a launcher's environment says, without torch, and whether the launcher still runs; who speaks is asked by every command."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from mmaudio.base.errors import UserError
from mmaudio.distributed.ranks import read_ranks, unhandled_signals
from tests.conftest import ROOT

LAUNCHED = "tests/distributed/launched.py"
NEEDS_NAMESPACES = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("unshare") is None or bool(subprocess.run(["unshare", "-pf", "--mount-proc", "true"]).returncode),
    reason="no namespace of processes can be made here",
)


def test_a_place_that_is_no_number(monkeypatch):
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UserError, match="the environment says RANK=first; want a whole number"):
        read_ranks()


def test_reading_it_needs_no_torch():
    code = "import sys; from mmaudio.distributed.ranks import read_ranks; read_ranks(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def told(monkeypatch):
    """What is said of signals in an environment that has these variables, and none of a launcher or scheduler else."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "PBS_", "LSB_", "SGE_")):
            monkeypatch.delenv(name)

    def ask(**environment: str) -> str | None:
        with monkeypatch.context() as here:
            for name, value in environment.items():
                here.setenv(name, value)
            return unhandled_signals()

    return ask


def test_a_schedulers_signal_that_torchrun_would_die_of_is_told(told):
    default, job = "SIGTERM,SIGINT,SIGHUP,SIGQUIT", {"SLURM_JOB_ID": "12"}
    sentence = told(**job, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_SIGNALS_TO_HANDLE=default)
    assert "a job of SLURM" in sentence and f"torchrun --signals-to-handle={default},SIGUSR1 " in sentence
    assert told(**job, TORCHELASTIC_RUN_ID="none") == sentence  # of a torchrun that does not say
    partly = told(**job, TORCHELASTIC_RUN_ID="none", TORCHELASTIC_SIGNALS_TO_HANDLE="SIGTERM, SIGUSR2")
    assert "--signals-to-handle=SIGTERM,SIGUSR2,SIGUSR1 " in partly
    assert "a job of PBS" in told(PBS_JOBID="7.head", TORCHELASTIC_RUN_ID="none")


def test_where_nothing_is_lost_nothing_is_said(told):
    assert told(TORCHELASTIC_RUN_ID="none", TORCHELASTIC_SIGNALS_TO_HANDLE="SIGTERM") is None  # no scheduler
    assert told(SLURM_JOB_ID="12") is None  # srun
    assert told(SLURM_JOB_ID="12", TORCHELASTIC_RUN_ID="x", TORCHELASTIC_SIGNALS_TO_HANDLE="SIGTERM, SIGUSR1") is None


@pytest.mark.parametrize("way", ["plainly", "wrapped"])
def test_a_worker_is_asked_to_end_when_its_launcher_is_gone(tmp_path, way):
    log = tmp_path / "log"
    launcher = subprocess.Popen([sys.executable, LAUNCHED, "launcher", way, log], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_for(log, "ready\n")
    finally:
        launcher.kill()
        launcher.wait()
    wait_for(log, "ready\nasked to end, launcher gone: True\n")


def wait_for(log, text):
    until = time.monotonic() + 20
    while (found := log.read_text() if log.exists() else "") != text:
        assert time.monotonic() < until and text.startswith(found), found
        time.sleep(0.02)


@NEEDS_NAMESPACES
def test_a_worker_that_begins_too_late_leaves_at_once_and_says_why(tmp_path):
    log = tmp_path / "log"
    kill = f"while ! grep -q ready {log} 2>/dev/null; do sleep 0.05; done; kill -9 $!; sleep 2"
    ended = in_a_container(f"{sys.executable} {LAUNCHED} launcher late {log} & {kill}")
    assert "rank 0 leaves: its launcher is gone" in ended.stderr and log.read_text() == "ready\n"


@NEEDS_NAMESPACES
@pytest.mark.slow
@pytest.mark.parametrize("script", [f"{LAUNCHED}", "-m tests.distributed.launched", f"--no-python {sys.executable} {LAUNCHED}"])
def test_a_launcher_that_is_the_first_process_of_a_container_is_known(tmp_path, script):
    log = tmp_path / "log"
    ended = in_a_container(f"exec {sys.executable} -m torch.distributed.run --standalone --nproc_per_node=1 {script} worker plainly {log}")
    assert ended.returncode == 0, ended.stderr
    assert log.read_text() == "ready\nnobody said anything\n"


@NEEDS_NAMESPACES
@pytest.mark.slow
@pytest.mark.parametrize("program", ["train.py", "-m mmaudio train"])
def test_training_begins_where_torchrun_is_the_first_process_of_a_container(program):
    launch = f"exec {sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
    ended = in_a_container(f"{launch} {program} --cfg job")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("num_iterations: 300000\n") == 2 and "leaves" not in ended.stderr


def in_a_container(command: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell's words where the shell, or what takes its place, is process 1."""
    words = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
