"""What a training step costs: against the counts of the specification, closed forms, and a process that really takes the memory."""

import os
import subprocess
import sys

import pytest
import torch

from mmaudio.network import build_network
from mmaudio.trainer.costs import MatrixProduct, activation_bytes, flops_per_row, matmul_rate, state_bytes
from tests.conftest import ROOT

# Each number of rows in a process of its own, whose peak nobody else's is.
TRAIN_ONCE = """
import os, resource, torch
from mmaudio.network import build_network
torch.set_num_threads(1)
network = build_network("tiny_16k", duration_s=4.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20))
for parameter in network.parameters():
    parameter.grad = torch.zeros_like(parameter)
for rows in (4, 12):
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0
        continue
    told = [torch.randn(rows, *shape) for shape in ((125, 20), (32, 1024), (88, 768), (77, 1024))]
    before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    network(*told, torch.rand(rows)).square().mean().backward()
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # rusage would count the parent before exec
    print(int(peak.split()[1]) * 1024 - before, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(("variant", "gflop"), [("small_16k", 178.6), ("medium_44k", 906.6)])
def test_operations_of_a_row_that_is_told_everything(variant, gflop):
    assert flops_per_row(variant) / 1e9 == pytest.approx(gflop, rel=1e-3)


def test_frozen_parameters_save_their_gradients_alone():
    whole, frozen = flops_per_row("nano_16k"), flops_per_row("nano_16k", freeze=["joint_blocks.*"])
    assert 1 / 3 < frozen / whole < 1
    assert flops_per_row("nano_16k", duration_s=1.0) < whole / 4


def test_state_is_four_bytes_a_number():
    with torch.device("meta"):
        network = build_network("nano_16k")
    count = sum(tensor.numel() for tensor in network.state_dict().values())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    alone = state_bytes("nano_16k", num_averages=2)
    assert (alone.parameters, alone.gradients, alone.moments, alone.averages) == (4 * count, 4 * trained, 8 * trained, 8 * count)
    assert alone.total == 12 * count + 12 * trained
    assert state_bytes("nano_16k", num_averages=2, parallel="ddp", num_processes=4) == alone
    shared = state_bytes("nano_16k", num_averages=2, parallel="fsdp", num_processes=4)
    assert shared.total == pytest.approx(alone.total / 4, abs=4)
    frozen = state_bytes("nano_16k", num_averages=0, freeze=["joint_blocks.*", "fused_blocks.*"])
    assert frozen.averages == 0 and frozen.parameters == alone.parameters
    assert frozen.moments == 2 * frozen.gradients < 0.6 * alone.moments


def test_activations_grow_with_rows_and_shrink_in_bf16():
    full, half = activation_bytes("nano_16k", 1.0), activation_bytes("nano_16k", 1.0, amp=True)
    assert full.of(4) - full.of(2) == 2 * full.per_row > 0
    assert 0.4 < half.per_row / full.per_row < 0.8
    assert full.fixed < full.per_row < activation_bytes("nano_16k", 2.0).per_row
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in build_network("nano_16k").parameters())
    assert half.fixed > weights, "bf16 copies of the weights are kept for the backward pass"
    assert not torch.is_autocast_enabled("cpu")


def test_activations_are_what_a_process_really_takes():
    """glibc is told to give freed memory back at once, as a device's allocator uses it again."""

    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run([sys.executable, "-c", TRAIN_ONCE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    with_4, with_12 = map(int, ended.stdout.split())
    assert (with_12 - with_4) / 8 == pytest.approx(activation_bytes("tiny_16k", 4.0).per_row, rel=0.1)


def test_a_rate_of_matrix_products():
    product = MatrixProduct(torch.ones(8, 8), torch.ones(8, 8))
    assert product.flops == 2 * 8**3 and product()[0, 0] == 8
    assert 1e8 < matmul_rate(torch.device("cpu"), torch.float32) < 1e14
