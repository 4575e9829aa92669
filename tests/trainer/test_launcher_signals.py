"""The launcher of a training of two processes is sent a signal at any moment: the same command goes on from the last finished step.

torchrun hands SIGTERM on; of SIGUSR1, as schedulers send it, and of SIGKILL it dies without a word to the processes it started.
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mmaudio.base.machine import child_environment
from mmaudio.checkpoints.load import newest_checkpoint
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.runs.folder import REQUEUE_FILE
from tests.conftest import ROOT
from tests.extraction.killing import kill_each, processes_of, wait_until_gone
from tests.trainer.test_killed_training import LATE_S, NAME, NUM_STEPS, WORDS, Training, assert_same_end
from tests.trainer.tiny_stores import data_overrides, write_tiny_data

SIGNALS = pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
STAGES = ("eval_interval=10", "evaluate.max_rows=2", "metrics.names=[onset_f1]", "log_extra_interval=10", "sampling.num_steps=2")


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An undisturbed run, and the seconds it took."""
    data, folder = write_tiny_data(tmp_path_factory.mktemp("data")), tmp_path_factory.mktemp("straight") / "run"
    run = Training(data, folder, 2, (*WORDS, *STAGES, "data.test=[held]"))
    began_s = time.monotonic()
    run.end()
    return run, time.monotonic() - began_s


@pytest.mark.slow
@SIGNALS
def test_three_signals(straight, tmp_path, number):
    signal_and_go_on(straight, tmp_path, number, 3, random.Random(24))


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_one_of_two_launchers_is_gone(tmp_path, node):
    """As on two machines: the first launcher is also where all processes met."""
    data, folder, log = write_tiny_data(tmp_path / "data"), tmp_path / "run", tmp_path / "log"
    marker, port = f"hydra.run.dir={folder}", free_port()
    words = [*data_overrides(data), *WORDS, "num_iterations=100000", "save_checkpoint_interval=100000", "val_interval=0", marker]
    meeting = [f"--rdzv_endpoint=localhost:{port}", "--rdzv_backend=c10d", "--rdzv_id=1", "--nnodes=2", "--nproc_per_node=1"]
    with open(log, "wb") as file:
        launchers = [
            subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *meeting, f"--rdzv_conf=is_host={is_host}", "train.py", *words],
                cwd=ROOT,
                stdout=file,
                stderr=file,
                env=child_environment(),
                start_new_session=True,
            )
            for is_host in (1, 0)
        ]
    try:
        until = time.monotonic() + LATE_S
        while steps_logged(log) < 2:
            assert time.monotonic() < until and all(launcher.poll() is None for launcher in launchers), log.read_text()
            time.sleep(0.05)
        launchers[node].send_signal(signal.SIGUSR1)
        for launcher in launchers:
            launcher.wait(LATE_S)
            wait_until_gone(launcher, marker, LATE_S)
    finally:
        kill_each([*processes_of(marker), *(launcher.pid for launcher in launchers if launcher.poll() is None)])
    found = newest_checkpoint(RunFiles(folder, NAME))
    assert found is not None and found.state.steps_done == steps_logged(log), log.read_text()
    assert (folder / REQUEUE_FILE).is_file()


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("localhost", 0))
        return int(asked.getsockname()[1])


def steps_logged(log: Path) -> int:
    return max((int(step) for step in re.findall(r" train (\d+): loss", log.read_text())), default=0)


@pytest.mark.soak
@SIGNALS
def test_twenty_signals(straight, tmp_path, number):
    signal_and_go_on(straight, tmp_path, number, 20, random.Random(int(os.environ.get("SOAK_SEED", "24"))))


def signal_and_go_on(straight, tmp_path, number, count, draw):
    undisturbed, took_s = straight
    run, begun, sent = None, 0, 0
    try:
        while sent < count:
            if run is None:
                begun += 1
                run = replace(undisturbed, folder=tmp_path / f"run{begun}")
            run.begin()
            time.sleep(draw.uniform(0.0, took_s))
            if run.running.poll() is None:
                os.kill(run.running.pid, number)
                sent += 1
            if look(run, number):
                run = end(run, undisturbed)
        if run is not None:
            run.end()
            end(run, undisturbed)
    finally:
        if run is not None:
            kill_each(processes_of(run.marker))


def look(run, number) -> bool:
    """Check what is there once all processes are gone. Returns: whether the run has come to its end."""
    began_s = time.monotonic()
    wait_until_gone(run.running, run.marker, LATE_S)  # where it begins to look after its launcher, it has read all its code first
    log, found, finished = run.log.read_text(), newest_checkpoint(run.files), steps_logged(run.log)
    kept = found.state.steps_done if found else 0
    print(
        f"{number.name}: gone after {time.monotonic() - began_s:.1f} s, {finished} steps logged, {kept} kept, exit {run.running.returncode}"
    )
    assert kept >= finished, log
    assert found is None or found.skipped == ()
    if 0 < finished < NUM_STEPS:
        assert (run.folder / REQUEUE_FILE).is_file(), log
    return run.running.returncode == 0


def end(run, undisturbed) -> None:
    assert_same_end(run, undisturbed, passes_over="_shadow.pth")  # of the save before the last, which a stop may have asked for
    assert (run.folder / "test-output_metrics.json").is_file() and not (run.folder / REQUEUE_FILE).exists()
