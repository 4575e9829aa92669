"""The launcher of a training of two processes is sent a signal at any moment: the same command goes on from the last finished step.

torchrun hands SIGTERM on; of SIGUSR1, as schedulers send it, and of SIGKILL it dies without a word to the processes it started.
"""

import os
import random
import re
import signal
import time
from dataclasses import replace

import pytest

from mmaudio.checkpoints.load import newest_checkpoint
from mmaudio.runs.names import REQUEUE_FILE
from tests.features.killing import kill_each, processes_of, wait_until_gone
from tests.trainer.test_kills import LATE_S, NUM_STEPS, WORDS, Training, assert_same_end
from tests.trainer.tiny_stores import write_tiny_data

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
    log, found = run.log.read_text(), newest_checkpoint(run.files)
    finished = max((int(step) for step in re.findall(r" train (\d+): loss", log)), default=0)
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
