"""The place of a process as its launcher tells it: torchrun, srun, or none."""

import os
import subprocess
import sys

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.distributed.devices import pick_device
from mmaudio.distributed.ranks import Ranks, SlurmTask, expand_counts, first_host, read_ranks, slurm_task
from tests.conftest import ROOT

STEP = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "11",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURM_STEP_NODELIST": "gpu[07-09]",
    "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}


def without(*names: str, **changes: str) -> dict[str, str]:
    return {name: value for name, value in STEP.items() if name not in names} | changes


def test_a_task_of_a_step():
    assert slurm_task(STEP) == SlurmTask(5, 11, 1, 4, "gpu07", 10000 + 1234 * 37 % 20000)
    assert slurm_task(without(SLURM_NODEID="2")).num_local_tasks == 3
    assert slurm_task(without(SLURM_STEP_ID="1")).port == slurm_task(STEP).port + 1
    given = slurm_task(without(MASTER_ADDR="head", MASTER_PORT="5000"))
    assert (given.address, given.port) == ("head", 5000)
    assert slurm_task(without("SLURM_STEP_NODELIST")).address == "10.0.0.1"
    old = slurm_task(without("SLURM_STEP_TASKS_PER_NODE", "SLURM_STEP_ID", SLURM_STEPID="0", SLURM_NTASKS_PER_NODE="4", SLURM_NNODES="3"))
    assert old.num_local_tasks == 4
    assert slurm_task(without("SLURM_STEP_TASKS_PER_NODE", SLURM_NNODES="1")).num_local_tasks == 11


@pytest.mark.parametrize(
    "environment",
    [
        {},
        without("SLURM_STEP_ID"),  # a batch script: it has SLURM_PROCID, and all the tasks the allocation is for
        without("SLURM_PROCID"),  # the shell of an allocation
        without(SLURM_STEP_NUM_TASKS="1"),  # `srun --pty bash`
    ],
)
def test_what_is_no_task_of_several(environment):
    assert slurm_task(environment) is None


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (without("SLURM_LOCALID"), "SLURM_LOCALID is no number"),
        (without(SLURM_STEP_TASKS_PER_NODE="four"), "want something like"),
        (without("SLURM_STEP_NODELIST", "SLURM_LAUNCH_NODE_IPADDR"), "set MASTER_ADDR"),
        (without("SLURM_STEP_TASKS_PER_NODE"), "SLURM_NTASKS_PER_NODE is no number"),
    ],
)
def test_what_is_missing_is_told(environment, words):
    with pytest.raises(UserError, match=words):
        slurm_task(environment)


@pytest.mark.parametrize(
    ("hosts", "first"),
    [("localhost", "localhost"), ("gpu[07-09,12]-ib,login", "gpu07-ib"), ("a1,a2", "a1"), ("r[1,3]n[4-5]", "r1n4"), ("n[12]", "n12")],
)
def test_the_first_machine(hosts, first):
    assert first_host(hosts) == first


def test_counts_of_tasks():
    assert expand_counts("4(x2),3") == [4, 4, 3]
    assert expand_counts("2") == [2]


@pytest.fixture
def environment(monkeypatch):
    """Nothing of a launcher; returns what sets it."""
    for name in [*STEP, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SLURM_GPUS_ON_NODE"]:
        monkeypatch.delenv(name, raising=False)
    return lambda **words: [monkeypatch.setenv(name, value) for name, value in words.items()]


def test_torchrun_comes_before_srun(environment):
    assert read_ranks() == Ranks()
    environment(**STEP)
    found = read_ranks()
    assert (found.rank, found.world_size, found.local_rank, found.local_world_size, found.is_launched) == (5, 11, 1, 4, True)
    assert found.meeting == f"tcp://gpu07:{slurm_task(STEP).port}?rank=5&world_size=11"
    environment(RANK="1", WORLD_SIZE="2", LOCAL_RANK="1", LOCAL_WORLD_SIZE="2")
    assert read_ranks() == Ranks(1, 2, 1, 2, is_launched=True)


@pytest.mark.parametrize(("allotted", "visible", "chosen"), [("4", 4, 1), ("4", 1, 0), (None, 4, 1)])
def test_a_task_that_sees_its_own_device_only(environment, monkeypatch, allotted, visible, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    environment(**STEP, **({"SLURM_GPUS_ON_NODE": allotted} if allotted else {}))
    assert pick_device("cuda", read_ranks()) == torch.device("cuda", chosen)


def test_too_many_tasks_for_the_devices(environment, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    environment(**STEP, SLURM_GPUS_ON_NODE="2")
    with pytest.raises(UserError, match="has 2 for 4 processes"):
        pick_device("cuda", read_ranks())


JOIN = """
import torch, torch.distributed as dist
from mmaudio.distributed.collectives import process_group
from mmaudio.distributed.ranks import read_ranks
ranks, total = read_ranks(), torch.ones(1)
with process_group(ranks, torch.device("cpu")) as store:
    dist.all_reduce(total)
    print(ranks.rank, ranks.world_size, int(total), store is not None)
"""


def test_two_tasks_of_a_step_meet(environment):
    common = without(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_TASKS_PER_NODE="2", SLURM_STEP_NODELIST="localhost", SLURM_NODEID="0")
    common["SLURM_JOB_ID"] = str(os.getpid())
    tasks = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN],
            env={**os.environ, **common, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [task.communicate(timeout=60)[0].split() for task in tasks] == [["0", "2", "2", "True"], ["1", "2", "2", "True"]]
