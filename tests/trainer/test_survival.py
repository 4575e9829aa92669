"""Whole trainings whose processes are killed: the job ends in seconds, says which, and goes on from what was saved."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmaudio.checkpoints.load import newest_checkpoint
from mmaudio.checkpoints.run_files import RunFiles
from tests.conftest import ROOT
from tests.extraction.killing import processes_of
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data

pytestmark = pytest.mark.slow
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


def wait_until(is_so, what: str, limit_s: float) -> float:
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() < began_s + limit_s, what
        time.sleep(0.05)
    return time.monotonic() - began_s


@pytest.mark.parametrize("victim", ["rank 0", "rank 1", "launcher"])
def test_a_training_survives_a_kill(data, tmp_path, victim):
    marker = f"job_{os.getpid()}_{victim.replace(' ', '_')}"
    files, log = RunFiles(tmp_path / "output" / "x", "x"), tmp_path / "log"
    words = (*TINY, *data_overrides(data), "exp_id=x", "num_iterations=100000", "log_text_interval=1", "val_interval=0")
    words += (
        "save_checkpoint_interval=2",
        "keep_checkpoints=4",
        "ema.enable=False",
        "learning_rate=1e-5",
        f"hydra.job.name={marker}",
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(ROOT / "train.py")]
    with open(log, "wb") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        job = subprocess.Popen([*launch, *words], cwd=tmp_path, stdout=file, stderr=file, start_new_session=True, env=environment)
    try:
        wait_until(lambda: files.checkpoint_shadow.exists() or job.poll() is not None, log.read_text(), 120.0)
        assert job.poll() is None, log.read_text()
        workers = {rank_of(process): process for process in processes_of(marker) if process != job.pid}
        os.kill(job.pid if victim == "launcher" else workers[int(victim[-1])], signal.SIGKILL)
        took_s = wait_until(lambda: job.poll() is not None and not processes_of(marker), "processes are left", LIMIT_S)
    finally:
        for process in processes_of(marker):
            os.kill(process, signal.SIGKILL)
    print(f"{victim} killed, training gone after {took_s:.1f} s")
    text = log.read_text()
    if victim != "launcher":
        assert re.search(rf"rank \d leaves: {victim} failed first: its process was killed", text), text
        assert str(ROOT / "train.py") + '", line' not in text  # no traceback
    found = newest_checkpoint(files)
    assert found is not None and found.skipped == () and found.state.steps_done >= 2


def rank_of(process: int) -> int:
    environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(int(each.removeprefix(b"RANK=")) for each in environment if each.startswith(b"RANK="))
